"""Shrinking is averaging, however many pixels become one."""

import numpy as np
import pytest

from cp2fast.data.decoding.shrink import shrink


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1), (300_000, 2), (600, 800)])
@pytest.mark.parametrize("least", [0, 255])
def test_all_of_an_image_becomes_its_mean_be_it_a_photo_or_a_strip(size, least) -> None:
    image = np.random.default_rng(0).integers(least, 256, (*size, 3), np.uint8)
    small = shrink(image, 1)
    assert small.shape == (1, 1, 3)
    assert np.abs(small - image.mean((0, 1))).max() <= 0.51
