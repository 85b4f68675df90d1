"""A picture of dense features, with their three main directions as red, green and blue.

The picture is redrawn at each checkpoint. Principal components have arbitrary order and sign, so
they are rotated to match the previous colours as well as possible. Changes between pictures are
then due to the features, not the palette.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from cp2fast.figure import QUICK_PNG
from cp2fast.run_folder import atomic_write

COLOURS = 3
_RANGE = 2.5
"""Standard deviations from the mean to full colour."""
_GAP, _TITLE = 6, 24
"""Pixels between pictures, and above them for the title."""


def main_directions(features_NC: Tensor) -> Tensor:
    """Scores ``[N, 3]`` of the vectors on their three main directions, with deviation 1.

    They are exact, from the eigenvectors of the covariance. Signs are chosen so that the largest
    score of each direction is positive, so equal features give equal scores.
    """
    centred = (features_NC - features_NC.mean(dim=0)).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    scores = centred @ vectors.flip(1)[:, :COLOURS]
    scores = F.pad(scores, (0, COLOURS - scores.shape[1]))
    largest = scores.gather(0, scores.abs().argmax(dim=0, keepdim=True)).sign()
    scores = scores * torch.where(largest == 0, 1, largest)
    return scores / scores.std(dim=0, correction=0).clamp(min=1e-12)


def turned(scores_N3: Tensor, before_N3: Tensor) -> Tensor:
    """Rotate the scores to be as close as possible to those of the previous picture.

    This is the orthogonal Procrustes problem (Schönemann, 1966), solved by one singular value
    decomposition.
    """
    u, _, vh = torch.linalg.svd(scores_N3.T @ before_N3)
    turned_N3: Tensor = scores_N3 @ (u @ vh)
    return turned_N3


def colours(scores_N3: Tensor) -> Tensor:
    """RGB from 0 to 1; grey is the mean, full colour is ``_RANGE`` deviations from it."""
    return (0.5 + scores_N3 / (2 * _RANGE)).clamp(0, 1)


def explained_by(scores_N3: Tensor, groups_N: Tensor) -> float:
    """Share of the scores' variance between two groups: eta squared, 0 to 1.

    Args:
        scores_N3: scores of the cells of one photo.
        groups_N: group of each cell, bool; both groups occur.
    """
    centred = scores_N3.double() - scores_N3.double().mean(dim=0)
    between = sum(
        len(group) * group.mean(dim=0).square().sum()
        for group in (centred[groups_N], centred[~groups_N])
    )
    total = centred.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    return float(between / total)


def draw_features(
    images_HW3: Sequence[NDArray[np.uint8]],
    rows: Mapping[str, Sequence[NDArray[np.float64]]],
    path: Path,
) -> None:
    """Draw each photo above the colours of its features, at one or more steps of a run.

    Args:
        images_HW3: photos of one size, as seen by the network.
        rows: scores of each photo's cells, ``[h, w, 3]``, by row title.
        path: PNG file, replaced atomically.
    """
    height, width = images_HW3[0].shape[:2]
    line = _TITLE + height
    sheet = Image.new(
        "RGB", (len(images_HW3) * (width + _GAP) + _GAP, (1 + len(rows)) * line + _GAP), "white"
    )
    shown = [("photos", list(images_HW3))]
    for title, scores in rows.items():
        shown.append((title, [_coloured(each, (width, height)) for each in scores]))
    for row, (title, pictures) in enumerate(shown):
        ImageDraw.Draw(sheet).text((_GAP, row * line + _GAP), title, fill="black")
        for column, picture in enumerate(pictures):
            left = _GAP + column * (width + _GAP)
            sheet.paste(Image.fromarray(picture), (left, row * line + _TITLE))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG", **QUICK_PNG)


def _coloured(scores_hw3: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    rgb = (255 * colours(torch.from_numpy(scores_hw3))).round().to(torch.uint8).numpy()
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
