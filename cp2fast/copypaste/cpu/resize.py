"""Crop and resize on the CPU: Pillow's antialiased bilinear filter, in float32."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu import pixel
from cp2fast.copypaste.cpu.planes import row_of
from cp2fast.copypaste.cpu.simd import add_pixel, black, red_green_blue
from cp2fast.copypaste.jit import jit

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]

_ZERO, _HALF, _ONE, _WHITE = (np.float32(x) for x in (0, 0.5, 1, 255))
# An unsigned index spares numba's check for negative ones in the innermost loop.
_1, _3 = np.uint64(1), np.uint64(3)

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


def _horizontal(taps: int | None) -> Any:
    """A row's horizontal resize by filters of ``taps``, any if None; fewer are then unrolled."""

    @jit
    def weigh(
        line: _Floats,
        start: _Integers,
        weights: _Floats,
        red: _Floats,
        green: _Floats,
        blue: _Floats,
    ) -> None:
        count = len(weights) // len(start) if taps is None else taps
        tap = np.uint64(0)
        for x in range(len(start)):
            colour = black()
            sample = np.uint64(3 * start[x])
            for _ in range(count):
                colour = add_pixel(colour, weights[tap], line, sample)
                tap += _1
                sample += _3
            red[x], green[x], blue[x] = red_green_blue(colour)

    return weigh


_weigh_2, _weigh_3, _weigh_4, _weigh_5, _weigh_any = map(_horizontal, (2, 3, 4, 5, None))


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
    taps = columns.weights.shape[1]
    start = columns.start[left:right]
    weights = columns.weights[left:right].reshape(len(start) * taps)
    begin, end = 3 * min(start[0], start[-1]), 3 * (max(start[0], start[-1]) + taps)
    needed = line[begin:end]
    for y in range(top, bottom):
        for k in range(rows.weights.shape[1]):
            weight = rows.weights[y, k] / _WHITE
            at = crop.origin + (rows.start[y] + k) * crop.pitch
            source = crop.pixels[at + begin : at + end]
            if k == 0:
                for i in range(len(needed)):
                    needed[i] = weight * np.float32(source[i])
            else:
                for i in range(len(needed)):
                    needed[i] += weight * np.float32(source[i])
        red, green, blue = row_of(planes, y, left, right)
        if taps == 2:
            _weigh_2(line, start, weights, red, green, blue)
        elif taps == 3:
            _weigh_3(line, start, weights, red, green, blue)
        elif taps == 4:
            _weigh_4(line, start, weights, red, green, blue)
        elif taps == 5:
            _weigh_5(line, start, weights, red, green, blue)
        else:
            _weigh_any(line, start, weights, red, green, blue)


@jit
def resize_transposed(
    crop: Crop,
    rows: Filter,
    columns: Filter,
    rectangle: _Integers,
    line: _Floats,
    row: _Floats,
    planes: _Floats,
) -> None:
    """As ``resize``, of the view with x and y swapped; ``row`` is scratch ``[3 S]``.

    The filters are of the crop's own axes: a row of the resize becomes a column of the view.
    """
    top, left, bottom, right = rectangle
    size = len(rows.start)
    made = row.reshape(3, 1, size)
    for x in range(left, right):
        one_row = Filter(rows.weights[x : x + 1], rows.start[x : x + 1])
        part = np.array([0, top, 1, bottom])
        resize(crop, one_row, columns, part, line, made)
        for c in range(3):
            for y in range(top, bottom):
                planes[c, y, x] = made[c, 0, y]


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
