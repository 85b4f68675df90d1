"""The resize, held to torch's antialiased bilinear interpolation."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from cp2fast.copypaste.cpu.resize import Crop, Filter, crop_luma, most_taps, resize_filter
from cp2fast.copypaste.reference import to_grey

LENGTHS = [1, 2, 3, 7, 8, 9, 17, 100, 2399]


def made(length: int, size: int, mirror: bool) -> Filter:
    weights = np.full(size * most_taps(length, size), np.nan, np.float32)
    start = np.full(-(-size // 4) * 4, -1)
    taps = resize_filter(length, size, mirror, weights, start)
    return Filter(weights[: size * taps].reshape(size, taps), start)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("size", [1, 8, 13])
@pytest.mark.parametrize("mirror", [False, True])
def test_filter_is_torchs_and_stays_inside(length: int, size: int, mirror: bool) -> None:
    filter_ = made(length, size, mirror)
    assert (filter_.start[size:] == filter_.start[size - 1]).all()
    matrix = np.zeros((size, length), np.float32)
    for row, start, weights in zip(matrix, filter_.start[:size], filter_.weights, strict=True):
        assert 0 <= start <= length - len(weights)
        row[start : start + len(weights)] = weights
    impulses = torch.eye(length)[:, None, None, :]
    expected = interpolate(impulses, (1, size), mode="bilinear", antialias=True)[:, 0, 0].T
    np.testing.assert_allclose(matrix, expected.flip(0) if mirror else expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 40), (40, 5), (90, 70)])
def test_mean_luma_is_that_of_the_resized_crop(height: int, width: int) -> None:
    size = 11
    image = np.random.default_rng(0).integers(0, 256, (height + 4, width + 6, 3), dtype=np.uint8)
    crop = Crop(image.reshape(-1), (2 * (width + 6) + 3) * 3, 3 * (width + 6), height, width)
    rows = made(height, size, False)
    columns = made(width, size, True)
    line, totals = np.empty(3 * width, np.float32), np.empty(max(height, width), np.float32)
    inside = torch.from_numpy(image[2 : 2 + height, 3 : 3 + width]).permute(2, 0, 1).float() / 255
    view = interpolate(inside[None], (size, size), mode="bilinear", antialias=True)[0]
    expected = to_grey(view)[0].mean().item()
    assert crop_luma(crop, rows, columns, line, totals) == pytest.approx(expected, abs=1e-6)
