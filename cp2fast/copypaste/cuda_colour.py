"""Colour jitter and grey on a tile in a block's shared memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from cp2fast.copypaste import pixel
from cp2fast.copypaste.cuda_jit import WARP, WARPS, device
from cp2fast.copypaste.cuda_tile import SIDE
from cp2fast.copypaste.parameters import CONTRAST, HUE, SATURATION

_ZERO = np.float32(0)

_luma, _blend = device(pixel.luma), device(pixel.blend)
_wrap_turns, _shift_hue = device(pixel.wrap_turns), device(pixel.shift_hue)


class Jitter(NamedTuple):
    """The colour operations of a view: each ``order`` with its ``factor``, then grey."""

    order: tuple[int, int, int, int]
    factor: tuple[float, float, float, float]
    grey: bool


@device
def jitter_of(orders: Any, factors: Any, grey: Any, n: int) -> Jitter:
    """View ``n`` (of B x V); all of it in registers."""
    i = 4 * n
    order = orders[i], orders[i + 1], orders[i + 2], orders[i + 3]
    factor = (
        factors[i + order[0]],
        factors[i + order[1]],
        factors[i + order[2]],
        factors[i + order[3]],
    )
    return Jitter(order, factor, grey[n] != 0)


@device
def adjust(
    planes: Any,
    height: int,
    width: int,
    jitter: Jitter,
    operations: int,
    mean: np.float32,
    grey: bool,
) -> np.float32:
    """Apply the first ``operations`` of the jitter in place, then grey if asked.

    A thread adjusts the pixels that it has resized itself, and needs no barrier between.

    Args:
        planes: shared float32 ``[3, AREA]``.
        height: rows that the planes hold.
        width: columns that they hold.
        jitter: of the view.
        operations: from 0 to 4.
        mean: luma, for contrast.
        grey: whether to.

    Returns:
        The luma of the pixels that this thread has made.
    """
    total = _ZERO
    for y in range(cuda.threadIdx.y, height, WARPS):
        x = np.int64(cuda.threadIdx.x)
        while x < width:
            at = np.uint32(y * SIDE + x)
            red, green, blue = planes[0, at], planes[1, at], planes[2, at]
            for i in range(4):
                if i < operations:
                    factor = jitter.factor[i]
                    if jitter.order[i] == HUE:
                        red, green, blue = _shift_hue(red, green, blue, _wrap_turns(factor))
                    else:
                        base = mean if jitter.order[i] == CONTRAST else _ZERO
                        if jitter.order[i] == SATURATION:
                            base = _luma(red, green, blue)
                        red = _blend(base, red, factor)
                        green = _blend(base, green, factor)
                        blue = _blend(base, blue, factor)
            luma = _luma(red, green, blue)
            total += luma
            if grey:
                red, green, blue = luma, luma, luma
            planes[0, at], planes[1, at], planes[2, at] = red, green, blue
            x += WARP
    return total
