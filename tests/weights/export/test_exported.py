"""What the exports share: images to compare on, and the comparison."""

from __future__ import annotations

import math

import pytest
import torch

from cp2fast.weights.export.exported import largest_difference, random_images


def test_the_difference_is_relative_to_our_largest_value() -> None:
    ours = torch.tensor([1.0, -10.0])
    assert largest_difference(ours, torch.tensor([1.5, -10.0])) == pytest.approx(0.05)
    assert largest_difference(ours, ours) == 0
    assert largest_difference(torch.zeros(2), torch.ones(2)) > 1


@pytest.mark.parametrize("theirs", [[math.nan, 0.0], [math.inf, 0.0], [1.0]])
def test_no_numbers_and_other_shapes_differ_without_bound(theirs: list[float]) -> None:
    ours = torch.tensor([1.0, 0.0])
    assert largest_difference(ours, torch.tensor(theirs)) == math.inf
    assert largest_difference(torch.tensor(theirs), ours) == math.inf


def test_the_images_are_varied_and_always_the_same() -> None:
    images = random_images(2, 7, 9)
    assert (images.shape, images.dtype) == ((2, 3, 7, 9), torch.float32)
    assert torch.equal(images, random_images(2, 7, 9))
    assert images.min() < -1.9
    assert images.max() > 1.9
    assert images.unique().numel() > 370
