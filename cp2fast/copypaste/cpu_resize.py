"""Crop and resize on the CPU: Pillow's antialiased bilinear filter, in float32."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste import pixel
from cp2fast.copypaste.cpu_jit import jit

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]

_ZERO, _HALF, _ONE, _WHITE = (np.float32(x) for x in (0, 0.5, 1, 255))
# An index that cannot be negative spares numba's check for it in the innermost loop.
_1, _2, _3 = (np.uint64(x) for x in (1, 2, 3))

_triangle, _luma = jit(pixel.triangle), jit(pixel.luma)


class Crop(NamedTuple):
    """A rectangle of an image among ``pixels``, uint8 RGB; places and ``pitch`` in bytes."""

    pixels: NDArray[np.uint8]
    origin: int
    pitch: int
    height: int
    width: int


class Filter(NamedTuple):
    """A resize along one axis: weights ``[S, taps]`` and, int64 ``[S]``, each row's first pixel."""

    weights: _Floats
    start: _Integers


@jit
def resize_filter(length: int, mirror: bool, weights: _Floats, start: _Integers) -> Filter:
    """The filter from ``length`` pixels to S, made in the given scratch; weights sum to 1.

    Every output has as many taps: near the far edge they begin earlier, and those outside the
    triangle weigh nothing. ``weights`` has room for ``most_taps(length, S)`` an output.
    """
    size = len(start)
    scale = np.float32(length) / np.float32(size)
    support = max(scale, _ONE)
    taps = 0
    for o in range(size):
        centre = (np.float32(o) + _HALF) * scale
        start[o] = max(int(centre - support + _HALF), 0)
        taps = max(taps, min(int(centre + support + _HALF), length) - start[o])
    table = weights[: size * taps].reshape(size, taps)
    for x in range(size):
        o = size - 1 - x if mirror else x
        centre = (np.float32(o) + _HALF) * scale
        start[x] = min(max(int(centre - support + _HALF), 0), length - taps)
        total = _ZERO
        for k in range(taps):
            table[x, k] = _triangle((np.float32(start[x] + k) + _HALF - centre) / support)
            total += table[x, k]
        for k in range(taps):
            table[x, k] /= total
    return Filter(table, start)


def most_taps(length: int, size: int) -> int:
    """No filter from at most ``length`` pixels to ``size`` has more taps."""
    return -(-2 * max(length, size) // size) + 1


@jit
def resize(
    crop: Crop, rows: Filter, columns: Filter, rectangle: _Integers, line: _Floats, planes: _Floats
) -> None:
    """Make one rectangle (top, left, bottom, right) of ``planes`` ``[3, S, S]``, in [0, 1].

    Vertically first, whole rows at a time into ``line``, then horizontally.
    """
    top, left, bottom, right = rectangle
    if left >= right:
        return
    begin = min(columns.start[left], columns.start[right - 1])
    end = max(columns.start[left], columns.start[right - 1]) + columns.weights.shape[1]
    line = line[: 3 * (end - begin)]
    for y in range(top, bottom):
        for k in range(rows.weights.shape[1]):
            weight = rows.weights[y, k] / _WHITE
            at = crop.origin + (rows.start[y] + k) * crop.pitch + 3 * begin
            source = crop.pixels[at : at + len(line)]
            if k == 0:
                for i in range(len(line)):
                    line[i] = weight * np.float32(source[i])
            else:
                for i in range(len(line)):
                    line[i] += weight * np.float32(source[i])
        for x in range(left, right):
            red, green, blue = _ZERO, _ZERO, _ZERO
            sample = np.uint64(3 * (columns.start[x] - begin))
            for k in range(columns.weights.shape[1]):
                weight = columns.weights[x, k]
                red += weight * line[sample]
                green += weight * line[sample + _1]
                blue += weight * line[sample + _2]
                sample += _3
            planes[0, y, x], planes[1, y, x], planes[2, y, x] = red, green, blue


@jit
def crop_luma(
    crop: Crop, rows: Filter, columns: Filter, line: _Floats, totals: _Floats
) -> np.float32:
    """Mean luma of the whole resized view, in one pass over the crop, as all of it is linear."""
    line = line[: 3 * crop.width]
    line[:] = _ZERO
    weights = _pixel_weights(rows, totals[: crop.height])
    for y in range(crop.height):
        weight = weights[y]
        at = crop.origin + y * crop.pitch
        source = crop.pixels[at : at + len(line)]
        for i in range(len(line)):
            line[i] += weight * np.float32(source[i])
    weights = _pixel_weights(columns, totals[: crop.width])
    total = 0.0
    for x in range(crop.width):
        total += weights[x] * _luma(line[3 * x], line[3 * x + 1], line[3 * x + 2])
    return np.float32(total / (255.0 * len(rows.start) * len(columns.start)))


@jit
def _pixel_weights(filter_: Filter, totals: _Floats) -> _Floats:
    """What each source pixel weighs in the sum of all outputs."""
    totals[:] = _ZERO
    for o in range(len(filter_.start)):
        for k in range(filter_.weights.shape[1]):
            totals[filter_.start[o] + k] += filter_.weights[o, k]
    return totals
