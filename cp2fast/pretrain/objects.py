"""Measure how well the colours of ``features.png`` separate objects, given masks.

The demo reports this at its end: its scenes have masks, which the pretraining did not use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.errors import UserError
from cp2fast.labels.masks import IGNORED, read_stored
from cp2fast.pretrain.watch import PICTURE, SCORES
from cp2fast.probe.pca import explained_by

CAN_BE_SEEN = 0.25
"""Objects stand out visibly if they explain at least this share of the colours' variance."""


@dataclass(frozen=True)
class ObjectsInColours:
    """Share of the colours' variance between objects and background, averaged over photos.

    Attributes:
        first: share before the first step.
        last: current share.
    """

    first: float
    last: float

    def __str__(self) -> str:
        """One line for the user."""
        told = (
            "the features separate objects from background"
            if self.last >= CAN_BE_SEEN and self.last > self.first
            else "so few steps do not separate objects from background"
        )
        return (
            f"{told}: they explain {self.last:.0%} of the colours in {PICTURE}, {self.first:.0%} "
            "before the first step"
        )


def objects_in_colours(folder: Path, masks: Path) -> ObjectsInColours | None:
    """Compare a run's picture of features with masks of the same photos.

    Args:
        folder: the run's folder.
        masks: folder with one PNG per photo, of the same name; label 0 is background.

    Returns:
        The shares; None if there is no picture from before the first step, or no mask with
        both objects and background.
    """
    if not (folder / SCORES).is_file():
        return None
    with np.load(folder / SCORES) as arrays:
        kept = dict(arrays)
    if not {"first", "last", "names"} <= kept.keys() or kept["first"].shape != kept["last"].shape:
        return None
    found = [
        (_share(first, objects), _share(last, objects))
        for name, first, last in zip(kept["names"], kept["first"], kept["last"], strict=True)
        if (objects := _objects(masks / f"{Path(str(name)).stem}.png", first.shape[:2])) is not None
    ]
    if not found:
        return None
    return ObjectsInColours(*(fmean(shares) for shares in zip(*found, strict=True)))


def _objects(mask: Path, cells: tuple[int, ...]) -> Tensor | None:
    """Cells of the photo's central square that are mostly object; None if all or none are."""
    try:
        labels_HW = torch.from_numpy(read_stored(mask, "values").pixels)
    except UserError:  # a missing or damaged mask must not end a run
        return None
    side = min(labels_HW.shape)
    top, left = ((edge - side) // 2 for edge in labels_HW.shape)
    square = labels_HW[top : top + side, left : left + side]
    is_object = ((square > 0) & (square != IGNORED)).float()
    objects_hw = F.interpolate(is_object[None, None], cells, mode="area")[0, 0] > 0.5
    return objects_hw if 0 < int(objects_hw.sum()) < objects_hw.numel() else None


def _share(scores_hw3: NDArray[np.float64], objects_hw: Tensor) -> float:
    return explained_by(torch.from_numpy(scores_hw3).flatten(0, 1), objects_hw.flatten())
