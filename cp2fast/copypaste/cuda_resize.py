"""Crop and resize in a block's shared memory: Pillow's antialiased bilinear filter, in float32.

A warp makes a row at a time. Loops with a barrier take as many turns for every thread of a block,
so that all of them reach it. The inner loops say ``while``: numba's ``range`` keeps a second count
in 64 bits, of which the compiler does not rid them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, int32

from cp2fast.copypaste import pixel
from cp2fast.copypaste.cuda_jit import SIMULATED, WARP, WARPS, device, sync_warp
from cp2fast.copypaste.cuda_tile import SIDE, Rectangle

CHUNK = 32 if SIMULATED else 128
"""Source pixels that a warp resizes vertically before it turns to the output's columns."""

_ZERO, _HALF, _ONE, _WHITE = (np.float32(x) for x in (0, 0.5, 1, 255))

# An index that cannot be negative spares numba's check for it in the innermost loop.
_NEXT = np.uint64(1)

_triangle = device(pixel.triangle)


class Crop(NamedTuple):
    """A rectangle of an image among ``pixels``, uint8 RGB; places and ``pitch`` in bytes."""

    pixels: Any
    origin: int
    pitch: int
    height: int
    width: int
    mirror: bool


class Filter(NamedTuple):
    """A resize along one axis, in shared memory, an element an output: each ``[SIDE]``.

    The weight of a tap is the triangle's at its distance, in units of the triangle's support, and a
    tap is ``step`` further than the one before.

    Attributes:
        first: int32, the first source pixel.
        last: int32, the one after the last.
        distance: float32, of the first source pixel.
        gain: float32, what makes the weights sum to 1.
    """

    first: Any
    last: Any
    distance: Any
    gain: Any


@device
def shared_filters() -> tuple[Filter, Filter]:
    """Room for the filters of the rows and of the columns."""
    first = cuda.shared.array((2, SIDE), int32)
    last = cuda.shared.array((2, SIDE), int32)
    distance = cuda.shared.array((2, SIDE), float32)
    gain = cuda.shared.array((2, SIDE), float32)
    rows = Filter(first[0], last[0], distance[0], gain[0])
    columns = Filter(first[1], last[1], distance[1], gain[1])
    return rows, columns


@device
def prepare_filter(
    filter_: Filter,
    length: int,
    size: int,
    start: int,
    count: int,
    mirror: bool,
    white: np.float32,
) -> None:
    """Fill in ``count`` outputs from ``start``; those beyond the view's edge repeat the edge.

    What is ``white`` before is 1 after.
    """
    scale = _scale(length, size)
    support = max(scale, _ONE)
    step = _ONE / support
    for i in range(cuda.threadIdx.y * WARP + cuda.threadIdx.x, count, WARP * WARPS):
        place = min(max(start + i, 0), size - 1)
        place = size - 1 - place if mirror else place
        centre = (np.float32(np.int32(place)) + _HALF) * scale
        first = np.int32(max(centre - support + _HALF, _ZERO))
        last = min(np.int32(centre + support + _HALF), np.int32(length))
        begin = (np.float32(first) + _HALF - centre) * step
        total, distance, k = _ZERO, begin, int(first)
        while k < last:
            total += _triangle(distance)
            distance, k = distance + step, k + 1
        at = np.uint32(i)
        filter_.first[at], filter_.last[at] = first, last
        filter_.distance[at], filter_.gain[at] = begin, _ONE / (total * white)


@device
def _scale(length: int, size: int) -> np.float32:
    """Source pixels an output; what is cast to 32 bits here is converted at once, 64 in steps."""
    return np.float32(np.int32(length)) / np.float32(np.int32(size))


@device
def resize(
    crop: Crop,
    size: int,
    area: Rectangle,
    rows: Filter,
    columns: Filter,
    lines: Any,
    planes: Any,
) -> None:
    """Make one area of a view in ``planes``, in [0, 1].

    Args:
        crop: from here.
        size: side S of the view.
        area: of at most SIDE x SIDE pixels; beyond the view's edge its edge pixels are repeated.
        rows: scratch.
        columns: scratch.
        lines: scratch, float32 ``[WARPS, 3, CHUNK]``, each warp's row between the two passes.
        planes: shared float32 ``[3, AREA]``, written with SIDE pixels from row to row.
    """
    height, width = area.bottom - area.top, area.right - area.left
    cuda.syncthreads()  # the view before may still be read
    prepare_filter(rows, crop.height, size, area.top, height, False, _WHITE)
    prepare_filter(columns, crop.width, size, area.left, width, crop.mirror, _ONE)
    cuda.syncthreads()
    begin = min(columns.first[0], columns.first[np.uint32(width - 1)])
    end = max(columns.last[0], columns.last[np.uint32(width - 1)])
    row_step = _ONE / max(_scale(crop.height, size), _ONE)
    column_step = _ONE / max(_scale(crop.width, size), _ONE)
    for group in range(0, height, WARPS):
        y = group + cuda.threadIdx.y
        for place in range(begin, end, CHUNK):
            chunk, stop = np.int32(place), min(np.int32(place + CHUNK), end)
            if y < height:
                _resize_down(crop, rows, row_step, y, chunk, stop, lines)
            sync_warp()
            if y < height:
                fresh = chunk == begin
                _resize_across(
                    columns,
                    column_step,
                    rows.gain[np.uint32(y)],
                    y,
                    width,
                    chunk,
                    stop,
                    fresh,
                    lines,
                    planes,
                )
            sync_warp()


@device
def _resize_down(
    crop: Crop, rows: Filter, step: np.float32, y: int, chunk: int, stop: int, lines: Any
) -> None:
    """Source pixels from ``chunk`` to ``stop`` for row ``y`` into the warp's line."""
    row, warp = np.uint32(y), np.uint32(cuda.threadIdx.y)
    first, last, begin = rows.first[row], rows.last[row], rows.distance[row]
    x = chunk + cuda.threadIdx.x
    start = crop.origin + first * crop.pitch + 3 * x
    while x < stop:
        red, green, blue, distance = _ZERO, _ZERO, _ZERO, begin
        at, k = start, first
        while k < last:
            weight = _triangle(distance)
            red += weight * np.float32(crop.pixels[at])
            green += weight * np.float32(crop.pixels[at + 1])
            blue += weight * np.float32(crop.pixels[at + 2])
            distance, at, k = distance + step, at + crop.pitch, k + 1
        i = np.uint32(x - chunk)
        lines[warp, 0, i], lines[warp, 1, i], lines[warp, 2, i] = red, green, blue
        x, start = x + WARP, start + 3 * WARP


@device
def _resize_across(
    columns: Filter,
    step: np.float32,
    row_gain: np.float32,
    y: int,
    width: int,
    chunk: int,
    stop: int,
    fresh: bool,
    lines: Any,
    planes: Any,
) -> None:
    """What the warp's line adds to row ``y`` of the planes, or puts there if it is ``fresh``."""
    warp, x = np.uint32(cuda.threadIdx.y), np.int64(cuda.threadIdx.x)
    while x < width:
        i, at = np.uint32(x), np.uint32(y * SIDE + x)
        first, last = max(columns.first[i], chunk), min(columns.last[i], stop)
        skipped = np.float32(np.int32(first - columns.first[i]))
        distance = columns.distance[i] + skipped * step
        red, green, blue = _ZERO, _ZERO, _ZERO
        k, source = first, np.uint64(first - chunk)
        while k < last:
            weight = _triangle(distance)
            red += weight * lines[warp, 0, source]
            green += weight * lines[warp, 1, source]
            blue += weight * lines[warp, 2, source]
            distance, source, k = distance + step, source + _NEXT, k + 1
        gain = row_gain * columns.gain[i]
        red, green, blue = gain * red, gain * green, gain * blue
        if not fresh:
            red, green, blue = red + planes[0, at], green + planes[1, at], blue + planes[2, at]
        planes[0, at], planes[1, at], planes[2, at] = red, green, blue
        x += WARP
