"""Blur, rounding and channels-last storage of one row."""

from types import ModuleType

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import normalize

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.cpu.output import (
    Output,
    blur_filter,
    blur_row,
    normalise_row,
    padded_length,
    store_row,
)
from cp2fast.copypaste.jit import jit
from cp2fast.copypaste.views import BFLOAT16, FLOAT16, FLOAT32

DTYPES = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16, FLOAT16: torch.float16}


@pytest.fixture
def filters() -> ModuleType:
    return pytest.importorskip("kornia.filters")


@pytest.mark.parametrize("sigma", [0.05, 1 / 3, 0.34, 1.0, 5 / 3, 2.0])
def test_blur_filter_is_a_gaussian_over_three_deviations(sigma: float, filters: ModuleType) -> None:
    taps = np.full(7, np.nan, np.float32)
    radius = blur_filter(np.float32(sigma), taps)
    assert radius == int(np.ceil(3 * float(np.float32(sigma))))
    half = taps[: radius + 1]
    expected = filters.get_gaussian_kernel1d(2 * radius + 1, sigma)[0, radius:]
    np.testing.assert_allclose(half, expected, atol=1e-6)


def test_no_blur_is_one_tap() -> None:
    taps = np.empty(7, np.float32)
    assert blur_filter(np.float32(0), taps) == 0
    assert taps[0] == 1


def output_to(stored: torch.Tensor, mean: np.ndarray, std: np.ndarray) -> Output:
    single, half = np.empty(0, np.float32), np.empty(0, np.uint16)
    if stored.dtype == torch.float32:
        single = stored.view(-1).numpy()
    else:
        half = stored.view(torch.uint16).view(-1).numpy()
    skew = stored.data_ptr() // stored.itemsize % (64 // stored.itemsize)
    kind = next(kind for kind, dtype in DTYPES.items() if dtype == stored.dtype)
    return Output(mean, std, kind, single, half, skew)


@jit
def normalise_and_store(
    flat: np.ndarray,
    plane: int,
    left: int,
    right: int,
    output: Output,
    row: np.ndarray,
    short: np.ndarray,
    to: int,
) -> None:
    skip = normalise_row(flat, 0, plane, left, right, output.mean, output.std, row)
    store_row(row, short, skip, 3 * (right - left), output, to)


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_store_rounds_as_torch_does(dtype: torch.dtype) -> None:
    """Around every normalised value's zero too, where float16 is subnormal."""
    random = np.random.default_rng(dtype.itemsize)
    mean = np.array(IMAGENET_MEAN)[:, None]
    near_zero = mean + random.normal(0, 1, (3, 20_000)) * 10.0 ** random.integers(-8, 0, 20_000)
    planes = np.concatenate([near_zero, random.random((3, 20_000))], axis=1).astype(np.float32)
    width, values = planes.shape[1], planes.size
    stored = torch.zeros(width, 3, dtype=dtype)
    row, short = np.empty(values, np.float32), np.empty(values, np.uint16)
    output = output_to(stored, *np.float32([IMAGENET_MEAN, IMAGENET_STD]))
    normalise_and_store(planes.reshape(-1), width, 0, width, output, row, short, 0)
    exact = normalize(torch.from_numpy(planes)[:, None], IMAGENET_MEAN, IMAGENET_STD)[:, 0].T
    single = torch.from_numpy(row).view(-1, 3)
    torch.testing.assert_close(single, exact, rtol=1e-6, atol=1e-6)
    assert torch.equal(stored, single.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES.values())
@pytest.mark.parametrize(
    ("left", "right", "to"), [(0, 5, 0), (3, 43, 7), (16, 48, 16), (61, 64, 3)]
)
def test_only_the_part_of_the_row_is_written(
    dtype: torch.dtype, left: int, right: int, to: int
) -> None:
    """Whole lines of the cache and what is beside them."""
    planes = np.random.default_rng(0).random((3, 64), np.float32)
    stored = torch.full((400,), 7, dtype=dtype)
    row, short = np.empty(3 * 64, np.float32), np.empty(3 * 64, np.uint16)
    output = output_to(stored, np.float32([0, 0, 0]), np.float32([1, 1, 1]))
    normalise_and_store(planes.reshape(-1), 64, left, right, output, row, short, to)
    end, part = to + 3 * (right - left), torch.from_numpy(planes[:, left:right])
    assert torch.equal(stored[to:end].view(-1, 3).T, part.to(dtype))
    assert (stored[:to] == 7).all()
    assert (stored[end:] == 7).all()


@jit
def blur_rows(
    flat: np.ndarray,
    size: int,
    pitch: int,
    left: int,
    right: int,
    half: np.ndarray,
    reach: np.ndarray,
    padded: np.ndarray,
    normalisation: np.ndarray,
    row: np.ndarray,
    out: np.ndarray,
) -> None:
    mean, std = normalisation
    for y in range(size):
        blur_row(flat, size, pitch, y, left, right, half, reach, padded, mean, std, row)
        for i in range(3 * (right - left)):
            out[y, i] = row[i]


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize(("left", "right"), [(0, 37), (0, 20), (5, 6), (17, 37)])
def test_blur_is_kornias_up_to_the_edges(
    sigma: float, left: int, right: int, filters: ModuleType
) -> None:
    size, pitch, radius = 37, 48, 6
    image = torch.rand(3, size, size, generator=torch.Generator().manual_seed(0))
    flat = np.full(3 * size * pitch + 16, np.nan, np.float32)
    flat[: 3 * size * pitch].reshape(3, size, pitch)[:, :, :size] = image.numpy()
    taps = np.empty(radius + 1, np.float32)
    half = taps[: blur_filter(np.float32(sigma), taps) + 1]
    padded = np.empty(3 * padded_length(pitch, radius), np.float32)
    scratch = np.empty((2, radius + 1), np.uint64), padded, np.float32([[0, 0, 0], [1, 1, 1]])
    row, out = np.empty(3 * pitch, np.float32), np.empty((size, 3 * (right - left)), np.float32)
    blur_rows(flat, size, pitch, left, right, half, *scratch, row, out)
    taps_2 = 2 * len(half) - 1
    sides, sigmas = (taps_2, taps_2), (sigma, sigma)
    whole = filters.gaussian_blur2d(image[None], sides, sigmas, border_type="replicate")
    expected = whole[0, :, :, left:right].permute(1, 2, 0)
    ours = torch.from_numpy(out).view(size, right - left, 3)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
