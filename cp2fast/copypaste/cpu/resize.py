"""Crop and resize on the CPU: Pillow's antialiased bilinear filter, in float32."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu import pixel
from cp2fast.copypaste.cpu.lanes import WIDE, zeros
from cp2fast.copypaste.cpu.load_store import load, load_bytes, load_pixels, put, put_pixels
from cp2fast.copypaste.jit import inline, jit, specialised

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]

_ZERO, _HALF, _ONE, _WHITE = (np.float32(x) for x in (0, 0.5, 1, 255))
# Unsigned indices avoid numba's check for negative ones in the innermost loop.
_1, _2, _3, _16 = (np.uint64(n) for n in (1, 2, 3, 16))

_triangle, _luma = jit(pixel.triangle), jit(pixel.luma)


class Crop(NamedTuple):
    """A rectangle of an image in ``pixels``, uint8 RGB; offsets and ``pitch`` are in bytes."""

    pixels: NDArray[np.uint8]
    origin: int
    pitch: int
    height: int
    width: int


class Filter(NamedTuple):
    """A resize along one axis: weights ``[S, taps]`` and, int64, each output's first source pixel.

    ``start`` is padded to a multiple of four by repeating its last value.
    """

    weights: _Floats
    start: _Integers


QUAD = 4
"""Pixels computed at once in the horizontal resize."""


@jit
def resize_filter(length: int, size: int, mirror: bool, weights: _Floats, start: _Integers) -> int:
    """Compute the filter from ``length`` pixels to S, reversed for ``mirror``; returns its taps.

    Each output's weights, ``[S, taps]``, sum to 1. All outputs have the same number of taps: near
    the far edge they start earlier, and taps outside the triangle have zero weight. ``weights`` has
    space for ``most_taps(length, S)`` per output, and ``start`` is padded beyond S.
    """
    scale = np.float32(length) / np.float32(size)
    support = max(scale, _ONE)
    per_pixel = _ONE / support
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
        nearest = np.float32(start[x]) + _HALF - centre
        for k in range(taps):
            table[x, k] = _triangle((nearest + np.float32(k)) * per_pixel)
            total += table[x, k]
        share = _ONE / total
        for k in range(taps):
            table[x, k] *= share
    for x in range(size, len(start)):
        start[x] = start[size - 1]
    return taps


def most_taps(length: int, size: int) -> int:
    """An upper bound for the taps of any filter from at most ``length`` pixels to ``size``."""
    return -(-2 * max(length, size) // size) + 1


@jit
def spread(columns: Filter, wide: _Floats) -> None:
    """Arrange the weights over 255 for ``resize``: for four pixels at once, each four times.

    They are written to ``wide``: float32 ``[ceil(S / 4), taps, 4, 4]``; zero for pixels beyond S.
    """
    size, taps = columns.weights.shape
    at = 0
    for x in range(0, size, QUAD):
        for k in range(taps):
            for pixel_ in range(QUAD):
                weight = columns.weights[x + pixel_, k] / _WHITE if x + pixel_ < size else _ZERO
                for lane in range(4):
                    wide[at + lane] = weight
                at += 4


@jit
def span(start: _Integers, taps: int, left: int, right: int) -> tuple[int, int]:
    """The range of floats in a row between the passes needed for columns ``left`` to ``right``."""
    one, other = start[left], start[right - 1]
    return 3 * min(one, other), 3 * (max(one, other) + taps)


def _vertical(taps: int | None) -> Any:
    """``weigh_rows`` for filters of ``taps``; of any number if None."""

    @inline
    def weigh(
        count: int,
        pixels: NDArray[np.uint8],
        at: int,
        pitch: int,
        weights: _Floats,
        y: int,
        line: _Floats,
        begin: int,
        end: int,
    ) -> None:
        count = count if taps is None else taps
        for i in range(begin, end, WIDE):
            place = min(i, end - WIDE)  # The last lanes overlap, to avoid reading beyond the end.
            total = zeros()
            source = np.uint64(at + place)
            for k in range(count):
                total = total + weights[y, k] * load_bytes(pixels, source)
                source += np.uint64(pitch)
            put(line, np.uint64(place), total)

    return weigh


def _horizontal(taps: int | None) -> Any:
    """``weigh_columns`` for filters of ``taps``; of any number if None."""

    @inline
    def weigh(
        count: int,
        line: _Floats,
        start: _Integers,
        wide: _Floats,
        left: int,
        right: int,
        flat: _Floats,
        red: int,
        plane: int,
    ) -> None:
        count = count if taps is None else taps
        at = np.uint64(left * 4 * count)
        for x in range(left, right, QUAD):
            i = np.uint64(x)
            one, two = np.uint64(3 * start[i]), np.uint64(3 * start[i + _1])
            three, four = np.uint64(3 * start[i + _2]), np.uint64(3 * start[i + _3])
            total = zeros()
            for _ in range(count):
                total = total + load(wide, at) * load_pixels(line, one, two, three, four)
                one += _3
                two += _3
                three += _3
                four += _3
                at += _16
            to = np.uint64(red + x)
            put_pixels(flat, to, to + np.uint64(plane), to + np.uint64(2 * plane), total)

    return weigh


_COMMON_TAPS = 2, 3, 4, 5
_weigh_rows = specialised(_vertical, _COMMON_TAPS)
weigh_columns = specialised(_horizontal, _COMMON_TAPS)
"""The horizontal resize of ``line`` into ``flat``; ``left`` and ``right`` are multiples of four.

``count`` is the filter's number of taps, ``wide`` its weights from ``spread``.
"""


@inline
def weigh_rows(
    count: int,
    pixels: NDArray[np.uint8],
    at: int,
    pitch: int,
    weights: _Floats,
    y: int,
    line: _Floats,
    begin: int,
    end: int,
) -> None:
    """The vertical resize: ``line`` from ``begin`` to ``end``, from the ``count`` rows at ``at``.

    Output row ``y`` takes its weights from row ``y`` of ``weights``, ``[S, count]``.
    """
    if end - begin >= WIDE:
        _weigh_rows(count, pixels, at, pitch, weights, y, line, begin, end)
        return
    for i in range(begin, end):
        total = _ZERO
        for k in range(count):
            total += weights[y, k] * np.float32(pixels[at + k * pitch + i])
        line[i] = total


@jit
def crop_luma(
    crop: Crop, rows: Filter, columns: Filter, line: _Floats, totals: _Floats
) -> np.float32:
    """Mean luma of the whole resized view, in one pass over the crop, as the resize is linear."""
    pixels, width = crop.pixels, 3 * crop.width
    line[:width] = _ZERO
    weights = _pixel_weights(rows, totals[: crop.height])
    for y in range(crop.height):
        weight, at = weights[y], np.uint64(crop.origin + y * crop.pitch)
        for x in range(width):
            i = np.uint64(x)
            line[i] += weight * np.float32(pixels[at + i])
    weights = _pixel_weights(columns, totals[: crop.width])
    total = 0.0
    for x in range(crop.width):
        total += weights[x] * _luma(line[3 * x], line[3 * x + 1], line[3 * x + 2])
    return np.float32(total / (255.0 * len(rows.weights) * len(columns.weights)))


@jit
def _pixel_weights(filter_: Filter, totals: _Floats) -> _Floats:
    """The weight of each source pixel in the sum of all outputs."""
    totals[:] = _ZERO
    for o in range(len(filter_.weights)):
        for k in range(filter_.weights.shape[1]):
            totals[filter_.start[o] + k] += filter_.weights[o, k]
    return totals
