"""Choose the rectangles of a view to compute: the visible pixels and the blur's halo."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.jit import jit


class Region(NamedTuple):
    """A rectangle of pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int


@jit
def cover_seen(
    paste: NDArray[np.int32], foreground: bool, halo: int, hole: int, size: int
) -> tuple[Region, Region, Region, Region]:
    """Disjoint rectangles over the foreground or over the rest, plus ``halo`` pixels around it.

    Holes of at most ``hole`` pixels width are covered too. Some rectangles may be empty.
    """
    top, left, height, width = paste
    bottom, right = top + height, left + width
    none = Region(0, 0, 0, 0)
    if foreground:
        top, left = max(top - halo, 0), max(left - halo, 0)
        bottom, right = min(bottom + halo, size), min(right + halo, size)
        return Region(top, left, bottom, right), none, none, none
    top, left, bottom, right = top + halo, left + halo, bottom - halo, right - halo
    if top >= bottom or right - left <= hole:
        return Region(0, 0, size, size), none, none, none
    return (
        Region(0, 0, top, size),
        Region(top, 0, bottom, left),
        Region(top, right, bottom, size),
        Region(bottom, 0, size, size),
    )
