"""Blur, rounding and channels-last storage of one row."""

import numpy as np
import pytest
import torch
from kornia.filters import get_gaussian_kernel1d
from torchvision.transforms.functional import normalize

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.cpu.output import blur_filter, store
from cp2fast.copypaste.views import BFLOAT16, FLOAT16, FLOAT32

DTYPES = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16, FLOAT16: torch.float16}


@pytest.mark.parametrize("sigma", [0.05, 1 / 3, 0.34, 1.0, 5 / 3, 2.0])
def test_blur_filter_is_a_gaussian_over_three_deviations(sigma: float) -> None:
    taps = np.full(7, np.nan, np.float32)
    radius = blur_filter(np.float32(sigma), taps)
    assert radius == int(np.ceil(3 * float(np.float32(sigma))))
    half = taps[: radius + 1]
    expected = get_gaussian_kernel1d(2 * radius + 1, sigma)[0, radius:]
    np.testing.assert_allclose(half, expected, atol=1e-6)


def test_no_blur_is_one_tap() -> None:
    taps = np.empty(7, np.float32)
    assert blur_filter(np.float32(0), taps) == 0
    assert taps[0] == 1


@pytest.mark.parametrize("kind", DTYPES)
def test_store_rounds_as_torch_does(kind: int) -> None:
    """Around every normalised value's zero too, where float16 is subnormal."""
    random = np.random.default_rng(kind)
    mean = np.array(IMAGENET_MEAN)[:, None]
    near_zero = mean + random.normal(0, 1, (3, 20_000)) * 10.0 ** random.integers(-8, 0, 20_000)
    planes = np.concatenate([near_zero, random.random((3, 20_000))], axis=1).astype(np.float32)
    dtype = DTYPES[kind]
    normalisation = np.float32([IMAGENET_MEAN, IMAGENET_STD])
    width, values = planes.shape[1], planes.size
    stored = torch.zeros(width, 3, dtype=dtype)
    row, short = np.empty(values, np.float32), np.empty(values, np.uint16)
    single, half = np.empty(0, np.float32), np.empty(0, np.uint16)
    if kind == FLOAT32:
        single = stored.view(-1).numpy()
    else:
        half = stored.view(torch.uint16).view(-1).numpy()
    skew = stored.data_ptr() // stored.itemsize % (64 // stored.itemsize)
    scratch = row, row.view(np.uint32), short
    store(
        planes.reshape(-1), 0, width, width, *normalisation, kind, *scratch, single, half, skew, 0
    )
    exact = normalize(torch.from_numpy(planes)[:, None], IMAGENET_MEAN, IMAGENET_STD)[:, 0].T
    if kind == FLOAT32:
        torch.testing.assert_close(stored, exact, rtol=1e-6, atol=1e-6)
    else:
        single = torch.from_numpy(row).view(-1, 3)
        torch.testing.assert_close(single, exact, rtol=1e-6, atol=1e-6)
        assert torch.equal(stored, single.to(dtype))


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(("begin", "count"), [(0, 5), (3, 40), (16, 32), (61, 7)])
def test_only_the_part_of_the_row_is_written(kind: int, begin: int, count: int) -> None:
    """Whole lines of the cache and what is beside them."""
    planes = np.random.default_rng(0).random((3, count), np.float32)
    stored = torch.full((400,), 7, dtype=DTYPES[kind])
    row, short = np.empty(3 * count, np.float32), np.empty(3 * count, np.uint16)
    single, half = np.empty(0, np.float32), np.empty(0, np.uint16)
    if kind == FLOAT32:
        single = stored.numpy()
    else:
        half = stored.view(torch.uint16).numpy()
    skew = stored.data_ptr() // stored.itemsize % (64 // stored.itemsize)
    plain = np.float32([0, 0, 0]), np.float32([1, 1, 1])
    scratch = row, row.view(np.uint32), short
    store(planes.reshape(-1), 0, count, count, *plain, kind, *scratch, single, half, skew, begin)
    end = begin + 3 * count
    assert torch.equal(stored[begin:end].view(-1, 3).T, torch.from_numpy(planes).to(DTYPES[kind]))
    assert (stored[:begin] == 7).all()
    assert (stored[end:] == 7).all()
