"""Colour jitter on the CPU, in place, on part of a row of three planes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu import pixel
from cp2fast.copypaste.jit import jit
from cp2fast.copypaste.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]

_ZERO, _ONE = np.float32(0), np.float32(1)

_luma, _blend = jit(pixel.luma), jit(pixel.blend)
_wrap_turns, _turn_hues = jit(pixel.wrap_turns), jit(pixel.turn_hues)
_shift_hue = jit(pixel.shift_hue)


@jit
def jitter_row(
    flat: _Floats,
    at: int,
    plane: int,
    length: int,
    order: _Integers,
    first: int,
    last: int,
    factor: _Floats,
    mean: np.float32,
) -> None:
    """Apply the operations ``first`` to ``last`` - 1 of ``order`` to part of a row, in place.

    Args:
        flat: the three planes.
        at: start of the part in the red plane.
        plane: distance between the channels' planes.
        length: number of pixels.
        order: int64 ``[4]``, the operations.
        first: first operation.
        last: one after the last operation.
        factor: factor of each operation.
        mean: mean luma of the view, for contrast.
    """
    red = np.uint64(at)
    green, blue = red + np.uint64(plane), red + np.uint64(2 * plane)
    for place in range(first, last):
        operation = order[place]
        f = factor[operation]
        if operation == HUE:
            to_red, to_green, to_blue = _turn_hues(_wrap_turns(f))
            for x in range(length):
                i = np.uint64(x)
                flat[red + i], flat[green + i], flat[blue + i] = _shift_hue(
                    flat[red + i], flat[green + i], flat[blue + i], to_red, to_green, to_blue
                )
        elif operation == SATURATION:
            for x in range(length):
                i = np.uint64(x)
                rest = (_ONE - f) * _luma(flat[red + i], flat[green + i], flat[blue + i])
                flat[red + i] = _blend(rest, flat[red + i], f)
                flat[green + i] = _blend(rest, flat[green + i], f)
                flat[blue + i] = _blend(rest, flat[blue + i], f)
        else:
            rest = (_ONE - f) * mean if operation == CONTRAST else _ZERO
            for x in range(length):
                i = np.uint64(x)
                flat[red + i] = _blend(rest, flat[red + i], f)
                flat[green + i] = _blend(rest, flat[green + i], f)
                flat[blue + i] = _blend(rest, flat[blue + i], f)


@jit
def make_grey(flat: _Floats, at: int, plane: int, length: int) -> None:
    """Replace all three channels by the luma in part of a row; arguments as in ``jitter_row``."""
    red = np.uint64(at)
    green, blue = red + np.uint64(plane), red + np.uint64(2 * plane)
    for x in range(length):
        i = np.uint64(x)
        grey = _luma(flat[red + i], flat[green + i], flat[blue + i])
        flat[red + i], flat[green + i], flat[blue + i] = grey, grey, grey


@jit
def add_luma(flat: _Floats, at: int, plane: int, columns: _Floats, length: int) -> None:
    """Add a row's luma to that of the rows above, column by column."""
    red = np.uint64(at)
    green, blue = red + np.uint64(plane), red + np.uint64(2 * plane)
    for x in range(length):
        i = np.uint64(x)
        columns[i] += _luma(flat[red + i], flat[green + i], flat[blue + i])


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
