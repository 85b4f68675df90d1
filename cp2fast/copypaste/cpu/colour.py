"""Colour jitter and grey on the CPU, in place, on registers of sixteen pixels of a row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu import pixel
from cp2fast.copypaste.cpu.lanes import WIDE
from cp2fast.copypaste.cpu.load_store import load, put
from cp2fast.copypaste.jit import inline, jit
from cp2fast.copypaste.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]

_ZERO, _ONE = np.float32(0), np.float32(1)

_luma, _blend = jit(pixel.luma), jit(pixel.blend)
_wrap_turns, _turn_hues = jit(pixel.wrap_turns), jit(pixel.turn_hues)
_shift_hue = jit(pixel.shift_hue)


class Colour(NamedTuple):
    """The colour operations of a view."""

    order: _Integers  # [4], the jitter operations
    factor: _Floats  # [4], factors of the operations
    hues: _Floats  # [3], where the hue operation moves red, green and blue
    grey: bool  # whether the view is converted to grey


@jit
def hue_shifts(factor: _Floats, hues: _Floats) -> None:
    """Write ``hues`` of a ``Colour``."""
    hues[0], hues[1], hues[2] = _turn_hues(_wrap_turns(factor[HUE]))


@inline
def change_row(
    flat: _Floats,
    at: int,
    plane: int,
    left: int,
    right: int,
    colour: Colour,
    first: int,
    last: int,
    mean: np.float32,
    whole: bool,
    luma: _Floats,
) -> None:
    """Apply operations ``first`` to ``last`` - 1 to part of a row, in place.

    After the operations before contrast, the luma is summed if this is for the ``whole`` view.
    After all other operations, the row is converted to grey if requested. Up to fifteen pixels on
    each side of the part are changed too. ``mean`` is the view's mean luma, for contrast; ``luma``
    holds the sum of each column.
    """
    order, factor, hues, grey = colour.order, colour.factor, colour.hues, colour.grey and not whole
    if first == last and not grey and not whole:
        return
    to_red, to_green, to_blue = hues[0], hues[1], hues[2]
    for x in range(left // WIDE * WIDE, right, WIDE):
        i, j, k = np.uint64(at + x), np.uint64(at + plane + x), np.uint64(at + 2 * plane + x)
        red, green, blue = load(flat, i), load(flat, j), load(flat, k)
        for place in range(first, last):
            operation = order[place]
            f = factor[operation]
            if operation == HUE:
                red, green, blue = _shift_hue(red, green, blue, to_red, to_green, to_blue)
            elif operation == SATURATION:
                rest = (_ONE - f) * _luma(red, green, blue)
                red, green, blue = (
                    _blend(rest, red, f),
                    _blend(rest, green, f),
                    _blend(rest, blue, f),
                )
            else:
                base = (_ONE - f) * mean if operation == CONTRAST else _ZERO
                red, green, blue = (
                    _blend(base, red, f),
                    _blend(base, green, f),
                    _blend(base, blue, f),
                )
        if whole:
            put(luma, np.uint64(x), load(luma, np.uint64(x)) + _luma(red, green, blue))
        if grey:
            red = _luma(red, green, blue)
            green, blue = red, red
        put(flat, i, red)
        put(flat, j, green)
        put(flat, k, blue)


@jit
def linear_gain(order: _Integers, count: int, factor: _Floats) -> np.float32:
    """The factor of the first ``count`` operations on the mean luma; -1 if it depends on pixels.

    Brightness and saturation do not clip if their factor is in [0, 1]; then saturation preserves
    every pixel's luma.
    """
    gain = _ONE
    for place in range(count):
        operation = order[place]
        f = factor[operation]
        if operation == HUE or f < _ZERO or f > _ONE:
            return -_ONE
        if operation == BRIGHTNESS:
            gain *= f
    return gain
