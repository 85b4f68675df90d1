"""Labels that are stored as outlines in a JSON file and painted on demand (COCO's format).

Requires pycocotools, the reference implementation for outlines and run lengths.
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
"""Value stored outside all annotations if a category has the number 0."""
CROWD = 65_535
"""Value stored where an annotation marks a crowd, whose members are not told apart: ignored."""


class Segment(NamedTuple):
    """One annotation.

    Attributes:
        stored: number of its category, or ``CROWD``.
        area: area in pixels; smaller segments are painted over larger ones.
        outline: polygons ``[[x, y, x, y, ...], ...]``, or run lengths in COCO's format.
    """

    stored: int
    area: float
    outline: Any


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotations of one image.

    Attributes:
        file: the file they come from.
        image: name of the image in the file.
        size: height and width of the image according to the file.
        background: value stored outside all segments.
        segments: the segments, in any order.
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
        UserError: an outline does not follow COCO's format.
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
    """The mask module of pycocotools.

    Raises:
        UserError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError("COCO's JSON needs pycocotools: pip install 'cp2fast[coco]'") from error
    return mask


def _runs(masks: Any, outline: object, height: int, width: int) -> Any:
    """Compressed run lengths of an outline; None for an annotation without one."""
    if isinstance(outline, Mapping):
        counts = outline["counts"]
        if isinstance(counts, list):
            return masks.frPyObjects(outline, *outline["size"])
        return {"size": outline["size"], "counts": counts}
    polygons = [polygon for polygon in outline if len(polygon) >= 6]  # type: ignore[attr-defined]
    return masks.merge(masks.frPyObjects(polygons, height, width)) if polygons else None
