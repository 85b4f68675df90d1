"""Colour jitter on the CPU, in place, on rectangles (top, left, bottom, right) of three planes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu import pixel
from cp2fast.copypaste.cpu.planes import row_of
from cp2fast.copypaste.jit import jit
from cp2fast.copypaste.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]

_ZERO, _ONE = np.float32(0), np.float32(1)

_luma, _blend = jit(pixel.luma), jit(pixel.blend)
_wrap_turns, _shift_hue = jit(pixel.wrap_turns), jit(pixel.shift_hue)


@jit
def jitter(
    planes: _Floats,
    rectangle: _Integers,
    order: NDArray[np.int32],
    factor: _Floats,
    mean: np.float32,
) -> None:
    """Apply the operations in ``order``, some or all; ``mean`` is the luma for contrast."""
    top, left, bottom, right = rectangle
    for y in range(top, bottom):
        red, green, blue = row_of(planes, y, left, right)
        for operation in order:
            f = factor[operation]
            if operation == HUE:
                turns = _wrap_turns(f)
                for x in range(len(red)):
                    red[x], green[x], blue[x] = _shift_hue(red[x], green[x], blue[x], turns)
            elif operation == SATURATION:
                for x in range(len(red)):
                    grey = _luma(red[x], green[x], blue[x])
                    red[x] = _blend(grey, red[x], f)
                    green[x] = _blend(grey, green[x], f)
                    blue[x] = _blend(grey, blue[x], f)
            else:
                base = mean if operation == CONTRAST else _ZERO
                for x in range(len(red)):
                    red[x] = _blend(base, red[x], f)
                    green[x] = _blend(base, green[x], f)
                    blue[x] = _blend(base, blue[x], f)


@jit
def make_grey(planes: _Floats, rectangle: _Integers) -> None:
    """Luma in all three planes."""
    top, left, bottom, right = rectangle
    for y in range(top, bottom):
        red, green, blue = row_of(planes, y, left, right)
        for x in range(len(red)):
            grey = _luma(red[x], green[x], blue[x])
            red[x], green[x], blue[x] = grey, grey, grey


@jit
def view_luma(planes: _Floats, columns: _Floats) -> np.float32:
    """Mean luma of whole planes ``[3, S, S]``; ``columns`` is scratch ``[S]``."""
    size = len(columns)
    columns[:] = _ZERO
    for y in range(size):
        red, green, blue = row_of(planes, y, 0, size)
        for x in range(size):
            columns[x] += _luma(red[x], green[x], blue[x])
    total = 0.0
    for x in range(size):
        total += columns[x]
    return np.float32(total / (size * size))


@jit
def linear_gain(order: NDArray[np.int32], factor: _Floats) -> np.float32:
    """What brightness and saturation multiply the mean luma by; -1 if it depends on the pixels.

    Neither clips while its factor is in [0, 1], and then saturation keeps every pixel's luma.
    """
    gain = _ONE
    for operation in order:
        f = factor[operation]
        if operation == HUE or f < _ZERO or f > _ONE:
            return -_ONE
        if operation == BRIGHTNESS:
            gain *= f
    return gain
