"""Labels that are outlines in a JSON file, painted when they are needed (COCO's format).

Needs pycocotools, whose masks are the reference for outlines and run lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.errors import UserError

BACKGROUND = 65_534
"""Stored where no annotation is, if a category has the number 0."""
CROWD = 65_535
"""Stored where an annotation says that it is of a crowd, not told apart: ignored."""


class Segment(NamedTuple):
    """One annotation.

    Attributes:
        stored: its category's number, or ``CROWD``.
        area: in pixels; smaller ones are painted over larger ones.
        outline: polygons ``[[x, y, x, y, ...], ...]``, or run lengths, as COCO writes them.
    """

    stored: int
    area: float
    outline: Any


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotations of one image.

    Attributes:
        file: that they are from.
        image: the name of the image in it.
        size: height and width of the image, as the file says.
        background: stored where there is none.
        segments: in any order.
    """

    file: Path
    image: str
    size: tuple[int, int]
    background: int
    segments: Sequence[Segment]

    def __str__(self) -> str:
        return f"{self.file} ({self.image})"


def paint(annotations: Annotations) -> NDArray[np.uint16]:
    """The annotations as stored numbers, ``[H, W]``.

    Raises:
        UserError: an outline is not what COCO's format says.
    """
    masks = coco_masks()
    height, width = annotations.size
    painted = np.full((height, width), annotations.background, np.uint16)
    for segment in sorted(annotations.segments, key=lambda one: -one.area):
        try:
            runs = _runs(masks, segment.outline, height, width)
            inside = None if runs is None else masks.decode(runs)
        except Exception as error:  # pycocotools raises plain exceptions of several kinds.
            raise UserError(
                f"{annotations} has a segmentation that is neither polygons nor run lengths: "
                f"{' '.join(str(error).split())[:120]}"
            ) from error
        if inside is None:
            continue
        if inside.shape != (height, width):
            raise UserError(
                f"{annotations} has run lengths of {inside.shape[1]} x {inside.shape[0]} pixels "
                f"for an image of {width} x {height}"
            )
        painted[inside.astype(bool)] = segment.stored
    return painted


def coco_masks() -> Any:
    """Pycocotools' module of masks.

    Raises:
        UserError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError("COCO's JSON needs pycocotools: pip install 'cp2fast[coco]'") from error
    return mask


def _runs(masks: Any, outline: object, height: int, width: int) -> Any:
    """As compressed run lengths; None for an annotation without an outline."""
    if isinstance(outline, Mapping):
        counts = outline["counts"]
        if isinstance(counts, list):
            return masks.frPyObjects(outline, *outline["size"])
        return {"size": outline["size"], "counts": counts}
    polygons = [polygon for polygon in outline if len(polygon) >= 6]  # type: ignore[attr-defined]
    return masks.merge(masks.frPyObjects(polygons, height, width)) if polygons else None
