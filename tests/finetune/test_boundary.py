"""Boundary F against a distance transform, and against cases done by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt

from cp2fast.finetune.boundary import sum_boundary_f


def expected_f(predicted: np.ndarray, labels: np.ndarray, kind: int, radius: float) -> float | None:
    """By scipy's Euclidean distances; what is ignored counts as inside of every class."""
    counted = labels != 255
    outlines = []
    for segmented in (predicted, labels):
        inside = (segmented == kind) | ~counted
        outlines.append(inside & ~binary_erosion(inside, border_value=1) & counted)
    found, meant = outlines
    if not found.any() and not meant.any():
        return None
    if not found.any() or not meant.any():
        return 0.0
    precision = (distance_transform_edt(~meant)[found] <= radius).mean()
    recall = (distance_transform_edt(~found)[meant] <= radius).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(seed: int, height: int = 57, width: int = 83) -> np.ndarray:
    random = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int64)
    for kind in (1, 2, 1, 3):
        top, left = random.integers(0, height - 20), random.integers(0, width - 30)
        labels[top : top + random.integers(5, 20), left : left + random.integers(5, 30)] = kind
    return labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [0.0075, 0.03])
def test_a_distance_transform_finds_the_same(seed: int, tolerance: float) -> None:
    labels, predicted = blobs(seed), np.roll(blobs(seed), (seed % 3, 2), (0, 1))
    predicted[5:9, 5:9] = 3
    radius = max(1.0, tolerance * math.hypot(*labels.shape))
    labels[:9] = 255  # too wide for a border
    filled = labels.copy()
    if math.floor(radius) >= 2:  # a border: its halves are the classes' above and below
        labels[30:34] = 255
        filled[30:32], filled[32:34] = labels[29], labels[34]
    sums = sum_boundary_f(torch.from_numpy(predicted), torch.from_numpy(labels), 5, tolerance)
    for kind in range(5):
        expected = expected_f(predicted, filled, kind, radius)
        assert bool(sums[kind, 1]) == (expected is not None)
        assert sums[kind, 0].item() == pytest.approx(expected or 0.0, abs=1e-9)


def test_a_square_moved_by_more_than_the_tolerance_shares_what_lies_along_it() -> None:
    labels, predicted = torch.zeros(2, 40, 40, dtype=torch.uint8)
    labels[10:20, 10:20] = 1
    predicted[10:20, 10:20] = 1
    assert sum_boundary_f(predicted, labels, 2, 0.02)[:, 0].tolist() == pytest.approx([1, 1])
    predicted = predicted.roll(30, 0).roll(12, 1)
    assert sum_boundary_f(predicted, labels, 2, 0.02)[:, 0].tolist() == [0, 0]


def test_what_is_ignored_has_no_outline() -> None:
    labels = torch.zeros(20, 20, dtype=torch.uint8)
    labels[:, 10:] = 255
    assert not sum_boundary_f(labels.clamp(max=1), labels, 2, 0.02).any()
    assert not sum_boundary_f(torch.zeros(4, 4), torch.full((4, 4), 255), 2, 0.02).any()


def test_a_border_between_objects_is_the_outline_of_both() -> None:
    labels = torch.zeros(40, 40, dtype=torch.uint8)
    labels[:, 20:] = 1
    labels[:, 19:21] = 255
    predicted = torch.zeros(40, 40, dtype=torch.int64)
    predicted[:, 21:] = 1
    assert sum_boundary_f(predicted, labels, 2, 0.02)[:, 0].tolist() == pytest.approx([1, 1])
