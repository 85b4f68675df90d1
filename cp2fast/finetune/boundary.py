"""Boundary F: how well the outlines of a segmentation match those of the labels.

For each image and class, the outline consists of the pixels of the class that touch another class.
Precision is the share of the predicted outline within a distance of the labelled one, recall the
reverse, and F their harmonic mean (Csurka et al., "What is a good evaluation measure for semantic
segmentation?", BMVC 2013; 0.75 % of the diagonal there). The F of a class is its mean over the
images in which it has an outline, in the labels or the prediction.

Ignored pixels have no outline. But thin ignored borders between objects, as in VOC, are first
assigned to the classes on either side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from cp2fast.labels.masks import IGNORED


def sum_boundary_f(
    predicted_HW: Tensor, labels_HW: Tensor, num_classes: int, tolerance: float
) -> Tensor:
    """The F of each class in one image, to be summed over images.

    Args:
        predicted_HW: predicted labels, integers below K.
        labels_HW: true labels, integers below K, or 255.
        num_classes: K.
        tolerance: largest distance between matching outlines, as a share of the image's
            diagonal; at least one pixel is used.

    Returns:
        float64 ``[K, 2]`` on the tensors' device: F, and 1 where the class has an outline.
    """
    sums = torch.zeros(num_classes, 2, dtype=torch.float64, device=labels_HW.device)
    radius = max(1.0, tolerance * math.hypot(*labels_HW.shape))
    labels_HW = _without_thin_borders(labels_HW, math.floor(radius))
    counted = labels_HW != IGNORED
    held = torch.cat([labels_HW[counted].long(), predicted_HW[counted].long()])
    present = torch.bincount(held, minlength=num_classes).nonzero()[:, 0]
    if not len(present):
        return sums
    kinds = present[:, None, None]
    outlines = [
        _outline((segmented[None] == kinds) & counted, counted)
        for segmented in (predicted_HW, labels_HW)
    ]
    predicted, labelled = outlines
    precision = _share(predicted, _widened(labelled, radius))
    recall = _share(labelled, _widened(predicted, radius))
    f = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    there = (predicted | labelled).flatten(1).any(dim=1)
    sums[present] = torch.stack([f * there, there.double()], dim=1)
    return sums


def _without_thin_borders(labels_HW: Tensor, reach: int) -> Tensor:
    """The labels, with ignored lines up to twice ``reach`` wide assigned to the nearest class.

    Wider ignored areas stay ignored up to their edges.
    """
    ignored = labels_HW == IGNORED
    if not ignored.any():
        return labels_HW
    filled = labels_HW
    for _ in range(reach):
        for neighbour in _neighbours(filled, IGNORED):
            filled = torch.where(filled == IGNORED, neighbour, filled)
    far = filled == IGNORED
    for _ in range(reach):
        up, down, left, right = _neighbours(far, False)
        far = ignored & (far | up | down | left | right)
    return filled.masked_fill(far, IGNORED)


def _neighbours(maps_HW: Tensor, outside: int) -> list[Tensor]:
    """The values above, below, left and right of each pixel."""
    padded = pad(maps_HW, (1, 1, 1, 1), value=outside)
    return [
        padded[..., :-2, 1:-1],
        padded[..., 2:, 1:-1],
        padded[..., 1:-1, :-2],
        padded[..., 1:-1, 2:],
    ]


def _outline(inside_KHW: Tensor, counted_HW: Tensor) -> Tensor:
    """Pixels inside that have a pixel of another class above, below or beside them."""
    up, down, left, right = _neighbours(counted_HW & ~inside_KHW, False)
    return inside_KHW & (up | down | left | right)


def _widened(outline_KHW: Tensor, radius: float) -> Tensor:
    """All pixels within ``radius`` of the outline.

    Outlines are thin, so marking a disc around each of their pixels, row by row, is less work than
    a distance transform or a convolution of the whole image.
    """
    reach = math.floor(radius)
    canvas = pad(outline_KHW, (reach,) * 4)
    height, width = canvas.shape[1:]
    pixels_N1 = canvas.flatten().nonzero()
    marked = torch.zeros_like(canvas).flatten()
    for down in range(-reach, reach + 1):
        half = math.isqrt(math.floor(radius**2 - down**2))
        across = torch.arange(-half, half + 1, device=canvas.device)
        marked[(pixels_N1 + down * width + across).flatten()] = True
    widened = marked.view(canvas.shape)
    return widened[:, reach : height - reach, reach : width - reach]


def _share(outline_KHW: Tensor, near_KHW: Tensor) -> Tensor:
    """The share of each class's outline that is near; 0 for a class without outline."""
    hit = (outline_KHW & near_KHW).flatten(1).sum(dim=1).double()
    return hit / outline_KHW.flatten(1).sum(dim=1).clamp(min=1)
