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
_FARTHEST = 1_000_000
"""Coordinates beyond this are an error of the export; outlines take memory by their length."""


class Segment(NamedTuple):
    """One annotation."""

    stored: int
    """Number of its category, or ``CROWD``."""
    outline: Any
    """Polygons ``[[x, y, x, y, ...], ...]``, or run lengths in COCO's format."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotations of one image in a file."""

    file: Path
    image: str
    """Its name in the file."""
    size: tuple[int, int]
    """Its height and width according to the file."""
    background: int
    """Value stored outside all segments."""
    segments: Sequence[Segment]

    def __str__(self) -> str:
        return f"{self.file} ({self.image})"


def paint(annotations: Annotations) -> NDArray[np.uint16]:
    """The annotations as stored numbers, ``[H, W]``; smaller ones lie over larger ones.

    Sizes are those of the outlines: many exports have no ``area``, or 0.

    Raises:
        UserError: an outline does not follow COCO's format.
    """
    masks = coco_masks()
    height, width = annotations.size
    painted = np.full((height, width), annotations.background, np.uint16)
    covered: list[tuple[float, int, Any]] = []
    try:
        for segment in annotations.segments:
            _refuse_unsafe(annotations, segment.outline)
            runs = _runs(masks, segment.outline, height, width)
            if runs is not None:
                covered.append((float(masks.area(runs)), segment.stored, runs))
        for _, stored, runs in sorted(covered, key=lambda one: -one[0]):
            painted[masks.decode(runs).astype(bool)] = stored
    except UserError:
        raise
    except Exception as error:  # pycocotools raises plain exceptions of several kinds.
        raise UserError(
            f"{annotations} has a segmentation that is neither polygons nor run lengths: "
            f"{' '.join(str(error).split())[:120]}"
        ) from error
    return painted


def coco_masks() -> Any:
    """The mask module of pycocotools. Raises UserError if that is not installed."""
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


def _refuse_unsafe(annotations: Annotations, outline: object) -> None:
    """Refuse outlines on which pycocotools, written in C, would run out of memory or crash."""
    height, width = annotations.size
    if isinstance(outline, str):
        raise UserError(f"{annotations} has text for a segmentation: export it again")
    if isinstance(outline, Mapping):
        size = outline.get("size")
        if size != [height, width]:
            shown = f"{size[1]} x {size[0]}" if isinstance(size, list) and len(size) == 2 else size
            raise UserError(
                f"{annotations} has run lengths of {shown} pixels for an image of {width} x "
                f"{height}: export them again"
            )
        total = _sum_of_runs(outline.get("counts"))
        if total != height * width:
            raise UserError(
                f"{annotations} has run lengths of {total} pixels in all for an image of {width} x "
                f"{height}: export them again"
            )
        return
    polygons = outline if isinstance(outline, list) else []
    points = [one for polygon in polygons if isinstance(polygon, list) for one in polygon]
    far = (one for one in points if not isinstance(one, int | float) or not abs(one) <= _FARTHEST)
    strange = next(far, None)
    if strange is not None:
        raise UserError(
            f"{annotations} has a segmentation with the coordinate {repr(strange)[:40]}: export it "
            "again"
        )


def _sum_of_runs(counts: object) -> int:
    """How many pixels run lengths cover, which pycocotools does not compare with the image.

    In packed form each character holds 5 bits of a run, lowest first, and a sixth bit that says
    whether more follow. From the fourth run on, the difference to the run two before is stored.
    """
    if isinstance(counts, list):
        return sum(one for one in counts if isinstance(one, int))
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else b"":
        bits = character - ord("0")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return sum(runs)
