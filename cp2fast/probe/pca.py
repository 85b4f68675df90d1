"""A picture of dense features: their three main directions as red, green and blue.

The picture is drawn again at each checkpoint. Principal components come in any order and sign, so
each time they are turned to the colours of the time before as far as they can be: what changes from
one picture to the next is the features, not the palette.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.run_folder import atomic_write

COLOURS = 3
_RANGE = 2.5
"""Deviations from the mean that the colours span."""


def main_directions(features_NC: Tensor) -> Tensor:
    """The scores of each vector on the three main directions of all, of deviation 1: ``[N, 3]``.

    Exact, by the eigenvectors of the covariance; the sign of each direction makes its largest
    score positive, so that equal features give equal scores.
    """
    centred = (features_NC - features_NC.mean(dim=0)).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    scores = centred @ vectors.flip(1)[:, :COLOURS]
    scores = F.pad(scores, (0, COLOURS - scores.shape[1]))
    largest = scores.gather(0, scores.abs().argmax(dim=0, keepdim=True)).sign()
    scores = scores * torch.where(largest == 0, 1, largest)
    return scores / scores.std(dim=0, correction=0).clamp(min=1e-12)


def turned(scores_N3: Tensor, before_N3: Tensor) -> Tensor:
    """The scores, turned to lie as near as they can to those of the picture before.

    The orthogonal Procrustes problem (Schönemann, 1966), solved by one singular value
    decomposition.
    """
    u, _, vh = torch.linalg.svd(scores_N3.T @ before_N3)
    turned_N3: Tensor = scores_N3 @ (u @ vh)
    return turned_N3


def colours(scores_N3: Tensor) -> Tensor:
    """RGB from 0 to 1: grey is the mean, full colour ``_RANGE`` deviations from it."""
    return (0.5 + scores_N3 / (2 * _RANGE)).clamp(0, 1)


def draw_features(
    images_HW3: Sequence[NDArray[np.uint8]],
    scores_hw3: Sequence[NDArray[np.float64]],
    title: str,
    path: Path,
) -> None:
    """Draw each photo above the colours of its features.

    Args:
        images_HW3: the photos, as the network saw them.
        scores_hw3: their cells' scores.
        title: of the picture.
        path: a PNG file, replaced as a whole.
    """
    figure = Figure(figsize=(2 * len(images_HW3), 4.4), layout="constrained")
    axes = figure.subplots(2, len(images_HW3), squeeze=False)
    for column, (image, scores) in enumerate(zip(images_HW3, scores_hw3, strict=True)):
        height, width = image.shape[:2]
        axes[0, column].imshow(image)
        rgb = colours(torch.from_numpy(scores)).numpy()
        axes[1, column].imshow(rgb, extent=(0, width, height, 0), interpolation="bicubic")
        for axis in axes[:, column]:
            axis.set_axis_off()
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    FigureCanvasAgg(figure)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)
