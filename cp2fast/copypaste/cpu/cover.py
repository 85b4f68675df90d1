"""Choose the rectangles of a view to compute: the visible pixels and the blur's halo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.jit import jit

Area = tuple[int, int, int, int]
"""Top, left, bottom and right of a rectangle."""
_Integers = NDArray[np.int64]


@jit
def cover_seen(
    paste: NDArray[np.int32], foreground: bool, halo: int, hole: int, size: int, cover: _Integers
) -> int:
    """Disjoint rectangles over the foreground or over the rest, plus ``halo`` pixels around it.

    Holes of at most ``hole`` pixels width are covered too.
    """
    top, left, height, width = paste
    bottom, right = top + height, left + width
    if foreground:
        top, left = max(top - halo, 0), max(left - halo, 0)
        bottom, right = min(bottom + halo, size), min(right + halo, size)
        _set_rectangle(cover, 0, top, left, bottom, right)
        return 1
    top, left, bottom, right = top + halo, left + halo, bottom - halo, right - halo
    if top >= bottom or right - left <= hole:
        _set_rectangle(cover, 0, 0, 0, size, size)
        return 1
    _set_rectangle(cover, 0, 0, 0, top, size)
    _set_rectangle(cover, 1, top, 0, bottom, left)
    _set_rectangle(cover, 2, top, right, bottom, size)
    _set_rectangle(cover, 3, bottom, 0, size, size)
    return 4


@jit
def area_of(cover: _Integers, i: int) -> Area:
    """The rectangle in row ``i``."""
    return cover[i, 0], cover[i, 1], cover[i, 2], cover[i, 3]


@jit
def _set_rectangle(cover: _Integers, i: int, top: int, left: int, bottom: int, right: int) -> None:
    # Separate assignments: a tuple would make numba compile string formatting for an error message.
    cover[i, 0], cover[i, 1], cover[i, 2], cover[i, 3] = top, left, bottom, right
