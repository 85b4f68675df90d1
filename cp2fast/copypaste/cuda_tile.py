"""The tiles that the CUDA kernels cut a view into."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from cp2fast.copypaste.cuda_jit import SIMULATED, device
from cp2fast.copypaste.validate import MAX_SIGMA

TILE = 8 if SIMULATED else 32
"""Side of a tile of output pixels."""
HALO = math.ceil(3 * MAX_SIGMA)
"""What the widest blur needs around a tile."""
SIDE = TILE + 2 * HALO
AREA = SIDE * SIDE
"""Of the shared memory for one channel of a tile and its halo, in rows of SIDE pixels."""


class Rectangle(NamedTuple):
    """Of output pixels; bottom and right are just outside."""

    top: int
    left: int
    bottom: int
    right: int


@device
def tile_at(number: int, tiles: int, size: int) -> Rectangle:
    """One of the ``tiles`` x ``tiles`` that cover S x S."""
    top, left = number // tiles * TILE, number % tiles * TILE
    return Rectangle(top, left, min(top + TILE, size), min(left + TILE, size))


@device
def foreground_at(pastes: Any, n: int) -> Rectangle:
    """The ``n``-th of the rectangles that are given as top, left, height and width."""
    top, left = pastes[4 * n], pastes[4 * n + 1]
    return Rectangle(top, left, top + pastes[4 * n + 2], left + pastes[4 * n + 3])


@device
def inside(tile: Rectangle, paste: Rectangle) -> Rectangle:
    """The part of the tile that is foreground; maybe empty."""
    return Rectangle(
        max(tile.top, paste.top),
        max(tile.left, paste.left),
        min(tile.bottom, paste.bottom),
        min(tile.right, paste.right),
    )


@device
def outside(tile: Rectangle, paste: Rectangle) -> Rectangle:
    """The least rectangle around the part of the tile that is not foreground; maybe empty."""
    top, left, bottom, right = tile
    if paste.left <= left and right <= paste.right:
        if paste.top <= top:
            top = max(top, paste.bottom)
        elif bottom <= paste.bottom:
            bottom = min(bottom, paste.top)
    elif paste.top <= top and bottom <= paste.bottom:
        if paste.left <= left:
            left = max(left, paste.right)
        elif right <= paste.right:
            right = min(right, paste.left)
    return Rectangle(top, left, bottom, right)


@device
def widen(area: Rectangle, radius: int) -> Rectangle:
    """The rectangle and ``radius`` pixels around it, beyond the view's edge too."""
    return Rectangle(
        area.top - radius, area.left - radius, area.bottom + radius, area.right + radius
    )
