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
    half = blur_filter(np.float32(sigma), np.full(7, np.nan, np.float32))
    radius = int(np.ceil(3 * float(np.float32(sigma))))
    expected = get_gaussian_kernel1d(2 * radius + 1, sigma)[0, radius:]
    np.testing.assert_allclose(half, expected, atol=1e-6)


def test_no_blur_is_one_tap() -> None:
    np.testing.assert_array_equal(blur_filter(np.float32(0), np.empty(7, np.float32)), [1])


@pytest.mark.parametrize("kind", DTYPES)
def test_store_rounds_as_torch_does(kind: int) -> None:
    """Around every normalised value's zero too, where float16 is subnormal."""
    random = np.random.default_rng(kind)
    mean = np.array(IMAGENET_MEAN)[:, None]
    near_zero = mean + random.normal(0, 1, (3, 20_000)) * 10.0 ** random.integers(-8, 0, 20_000)
    planes = np.concatenate([near_zero, random.random((3, 20_000))], axis=1).astype(np.float32)
    dtype = DTYPES[kind]
    stored = torch.zeros(planes.shape[1], 3, dtype=dtype)
    row = np.empty(planes.size, np.float32)
    normalisation = np.float32([IMAGENET_MEAN, IMAGENET_STD])
    store(*planes, *normalisation, kind, row, stored.view(torch.uint8).numpy().reshape(-1))
    exact = normalize(torch.from_numpy(planes)[:, None], IMAGENET_MEAN, IMAGENET_STD)[:, 0].T
    if kind == FLOAT32:
        torch.testing.assert_close(stored, exact, rtol=1e-6, atol=1e-6)
    else:
        single = torch.from_numpy(row).view(-1, 3)
        torch.testing.assert_close(single, exact, rtol=1e-6, atol=1e-6)
        assert torch.equal(stored, single.to(dtype))
