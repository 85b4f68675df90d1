"""A tile of one view on the GPU: resized, adjusted and blurred in a block's shared memory.

A block is WARPS warps, and a warp makes a row at a time; ``lane`` is a thread's place in its warp.
Loops with a barrier take as many turns for every thread of a block, so that all of them reach it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from cp2fast.copypaste import pixel
from cp2fast.copypaste.cuda_jit import SIMULATED, device, sync_warp
from cp2fast.copypaste.parameters import CONTRAST, HUE, SATURATION
from cp2fast.copypaste.validate import MAX_SIGMA

# The simulator takes a second for a thousand pixels: there, small tiles make small views tell.
WARP, WARPS = (4, 2) if SIMULATED else (32, 8)
"""Threads of a warp; warps of a block."""
TILE = 8 if SIMULATED else 32
"""Side of a tile of output pixels."""
CHUNK = 32 if SIMULATED else 128
"""Source pixels that a warp resizes vertically before it turns to the output's columns."""
HALO = math.ceil(3 * MAX_SIGMA)
"""What the widest blur needs around a tile."""
SIDE, TAPS = TILE + 2 * HALO, HALO + 1

_ROWS, _COLUMNS = 0, 1
_ZERO, _HALF, _ONE, _WHITE = (np.float32(x) for x in (0, 0.5, 1, 255))

_triangle, _gaussian, _luma = (device(f) for f in (pixel.triangle, pixel.gaussian, pixel.luma))
_blend, _wrap_turns = device(pixel.blend), device(pixel.wrap_turns)
_shift_hue = device(pixel.shift_hue)


class Rectangle(NamedTuple):
    """Of output pixels; bottom and right are just outside."""

    top: int
    left: int
    bottom: int
    right: int


class Crop(NamedTuple):
    """A rectangle of an image among ``pixels``, uint8 RGB; places and ``pitch`` in bytes."""

    pixels: Any
    origin: int
    pitch: int
    height: int
    width: int
    mirror: bool


class Scratch(NamedTuple):
    """A block's shared memory.

    Attributes:
        planes: float32 ``[3, SIDE, SIDE]``, the tile with its halo.
        lines: float32 ``[WARPS, 3, CHUNK]``, each warp's row between the two passes of a filter.
        first: int32 ``[2, SIDE]``, the first source pixel of each of the tile's rows and columns.
        last: int32 ``[2, SIDE]``, and the one after the last.
        gain: float32 ``[2, SIDE]``, what makes the filter's weights sum to 1.
        half: float32 ``[TAPS]``, the blur's filter: its centre and one side.
    """

    planes: Any
    lines: Any
    first: Any
    last: Any
    gain: Any
    half: Any


@device
def tile_at(number: int, tiles: int, size: int) -> Rectangle:
    """One of the ``tiles`` x ``tiles`` that cover S x S."""
    top, left = number // tiles * TILE, number % tiles * TILE
    return Rectangle(top, left, min(top + TILE, size), min(left + TILE, size))


@device
def inside(tile: Rectangle, paste: Any) -> Rectangle:
    """The part of the tile that is foreground (top, left, height, width); maybe empty."""
    return Rectangle(
        max(tile.top, paste[0]),
        max(tile.left, paste[1]),
        min(tile.bottom, paste[0] + paste[2]),
        min(tile.right, paste[1] + paste[3]),
    )


@device
def outside(tile: Rectangle, paste: Any) -> Rectangle:
    """The least rectangle around the part of the tile that is not foreground; maybe empty."""
    top, left, bottom, right = tile
    if paste[1] <= left and right <= paste[1] + paste[3]:
        if paste[0] <= top:
            top = max(top, paste[0] + paste[2])
        elif bottom <= paste[0] + paste[2]:
            bottom = min(bottom, paste[0])
    elif paste[0] <= top and bottom <= paste[0] + paste[2]:
        if paste[1] <= left:
            left = max(left, paste[1] + paste[3])
        elif right <= paste[1] + paste[3]:
            right = min(right, paste[1])
    return Rectangle(top, left, bottom, right)


@device
def widen(area: Rectangle, radius: int, size: int) -> Rectangle:
    """The rectangle and ``radius`` pixels around it, within S x S."""
    return Rectangle(
        max(area.top - radius, 0),
        max(area.left - radius, 0),
        min(area.bottom + radius, size),
        min(area.right + radius, size),
    )


@device
def resize(crop: Crop, size: int, area: Rectangle, scratch: Scratch) -> None:
    """Make one area of a view in ``scratch.planes``, in [0, 1], by Pillow's bilinear filter."""
    rows, columns = area.bottom - area.top, area.right - area.left
    first, last = scratch.first, scratch.last
    cuda.syncthreads()  # the view before may still be read
    _prepare(_ROWS, crop.height, size, area.top, rows, False, scratch)
    _prepare(_COLUMNS, crop.width, size, area.left, columns, crop.mirror, scratch)
    cuda.syncthreads()
    begin = min(first[_COLUMNS, 0], first[_COLUMNS, columns - 1])
    end = max(last[_COLUMNS, 0], last[_COLUMNS, columns - 1])
    for group in range(0, rows, WARPS):
        y = group + cuda.threadIdx.y
        for chunk in range(begin, end, CHUNK):
            stop = min(chunk + CHUNK, end)
            if y < rows:
                _resize_down(crop, size, area.top + y, y, chunk, stop, scratch)
            sync_warp()
            if y < rows:
                _resize_across(crop, size, area.left, columns, y, chunk, stop, begin, scratch)
            sync_warp()


@device
def _prepare(
    axis: int, length: int, size: int, start: int, count: int, mirror: bool, scratch: Scratch
) -> None:
    """The taps and the gain of ``count`` outputs from ``start`` along one axis."""
    scale = np.float32(length) / np.float32(size)
    support = max(scale, _ONE)
    inverse = _ONE / support
    thread = cuda.threadIdx.y * WARP + cuda.threadIdx.x
    for i in range(thread, count, WARP * WARPS):
        centre = _centre(start + i, size, scale, mirror)
        first = max(int(centre - support + _HALF), 0)
        last = min(int(centre + support + _HALF), length)
        total = _ZERO
        for k in range(first, last):
            total += _triangle((np.float32(k) + _HALF - centre) * inverse)
        scratch.first[axis, i], scratch.last[axis, i] = first, last
        scratch.gain[axis, i] = _ONE / total


@device
def _centre(output: int, size: int, scale: np.float32, mirror: bool) -> np.float32:
    """Where an output's centre lies on the source's axis."""
    place = size - 1 - output if mirror else output
    return (np.float32(place) + _HALF) * scale


@device
def _resize_down(
    crop: Crop, size: int, output: int, y: int, chunk: int, stop: int, scratch: Scratch
) -> None:
    """Source pixels from ``chunk`` to ``stop`` of output row ``output`` into the warp's line."""
    scale = np.float32(crop.height) / np.float32(size)
    inverse, centre = _ONE / max(scale, _ONE), _centre(output, size, scale, False)
    line, pixels = scratch.lines[cuda.threadIdx.y], crop.pixels
    first, last = scratch.first[_ROWS, y], scratch.last[_ROWS, y]
    for x in range(chunk + cuda.threadIdx.x, stop, WARP):
        red, green, blue = _ZERO, _ZERO, _ZERO
        at = crop.origin + first * crop.pitch + 3 * x
        for k in range(first, last):
            weight = _triangle((np.float32(k) + _HALF - centre) * inverse)
            red += weight * np.float32(pixels[at])
            green += weight * np.float32(pixels[at + 1])
            blue += weight * np.float32(pixels[at + 2])
            at += crop.pitch
        line[0, x - chunk], line[1, x - chunk], line[2, x - chunk] = red, green, blue


@device
def _resize_across(
    crop: Crop,
    size: int,
    left: int,
    columns: int,
    y: int,
    chunk: int,
    stop: int,
    begin: int,
    scratch: Scratch,
) -> None:
    """What the warp's line adds to row ``y`` of the planes; the chunk at ``begin`` is the first."""
    scale = np.float32(crop.width) / np.float32(size)
    inverse = _ONE / max(scale, _ONE)
    line, planes = scratch.lines[cuda.threadIdx.y], scratch.planes
    for x in range(cuda.threadIdx.x, columns, WARP):
        centre = _centre(left + x, size, scale, crop.mirror)
        red, green, blue = _ZERO, _ZERO, _ZERO
        for k in range(
            max(scratch.first[_COLUMNS, x], chunk), min(scratch.last[_COLUMNS, x], stop)
        ):
            weight = _triangle((np.float32(k) + _HALF - centre) * inverse)
            red += weight * line[0, k - chunk]
            green += weight * line[1, k - chunk]
            blue += weight * line[2, k - chunk]
        gain = scratch.gain[_ROWS, y] * scratch.gain[_COLUMNS, x] / _WHITE
        if chunk == begin:
            planes[0, y, x], planes[1, y, x], planes[2, y, x] = (
                gain * red,
                gain * green,
                gain * blue,
            )
        else:
            planes[0, y, x] += gain * red
            planes[1, y, x] += gain * green
            planes[2, y, x] += gain * blue


@device
def adjust(
    planes: Any,
    rows: int,
    columns: int,
    order: Any,
    operations: int,
    factor: Any,
    mean: np.float32,
    grey: bool,
) -> None:
    """Apply the first ``operations`` of ``order`` in place, then grey; ``mean`` is for contrast.

    A thread adjusts the pixels that it has resized itself, and needs no barrier between.
    """
    for y in range(cuda.threadIdx.y, rows, WARPS):
        for x in range(cuda.threadIdx.x, columns, WARP):
            red, green, blue = planes[0, y, x], planes[1, y, x], planes[2, y, x]
            for i in range(operations):
                f = factor[order[i]]
                if order[i] == HUE:
                    red, green, blue = _shift_hue(red, green, blue, _wrap_turns(f))
                else:
                    base = mean if order[i] == CONTRAST else _ZERO
                    base = _luma(red, green, blue) if order[i] == SATURATION else base
                    red, green, blue = (
                        _blend(base, red, f),
                        _blend(base, green, f),
                        _blend(base, blue, f),
                    )
            if grey:
                red = _luma(red, green, blue)
                green, blue = red, red
            planes[0, y, x], planes[1, y, x], planes[2, y, x] = red, green, blue


@device
def sum_luma(planes: Any, rows: int, columns: int) -> np.float32:
    """The luma of the pixels that this thread has made."""
    total = _ZERO
    for y in range(cuda.threadIdx.y, rows, WARPS):
        for x in range(cuda.threadIdx.x, columns, WARP):
            total += _luma(planes[0, y, x], planes[1, y, x], planes[2, y, x])
    return total


@device
def prepare_blur(radius: int, sigma: np.float32, scratch: Scratch) -> None:
    """The Gaussian over ``radius`` pixels to each side; its weights sum to 1."""
    if cuda.threadIdx.x == 0 and cuda.threadIdx.y == 0:
        half, total = scratch.half, _ONE
        half[0] = _ONE
        for i in range(1, radius + 1):
            half[i] = _gaussian(np.float32(i), sigma)
            total += half[i] + half[i]
        for i in range(radius + 1):
            half[i] /= total


@device
def blur_down(scratch: Scratch, rows: int, columns: int, y: int, radius: int) -> None:
    """Row ``y`` of the planes, blurred vertically, into the warp's line; edges are repeated."""
    half = scratch.half
    for c in range(3):
        plane, line = scratch.planes[c], scratch.lines[cuda.threadIdx.y, c]
        for x in range(cuda.threadIdx.x, columns, WARP):
            value = half[0] * plane[y, x]
            for i in range(1, radius + 1):
                value += half[i] * (plane[max(y - i, 0), x] + plane[min(y + i, rows - 1), x])
            line[x] = value


@device
def blurred_at(scratch: Scratch, c: int, columns: int, x: int, radius: int) -> Any:
    """One pixel of channel ``c`` of the warp's line, blurred horizontally."""
    half, line = scratch.half, scratch.lines[cuda.threadIdx.y, c]
    value = half[0] * line[x]
    for i in range(1, radius + 1):
        value += half[i] * (line[max(x - i, 0)] + line[min(x + i, columns - 1)])
    return value
