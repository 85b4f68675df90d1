"""The CUDA kernels of copy-paste: a block makes a tile.

    mean_luma    a tile of a view            -> the luma of its pixels before their contrast step
    compose      a tile of a composed image  -> its pixels and mask

Both make what they need of a view in shared memory: no pixel of it goes through global memory on
its way to the output. Every sum has a fixed order, so the bits of a sample depend on nothing else.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, int32

from cp2fast.copypaste import pixel
from cp2fast.copypaste.cpu_output import BFLOAT16, FLOAT32
from cp2fast.copypaste.cuda_jit import device, float_bits, kernel, sync_warp
from cp2fast.copypaste.cuda_tile import (
    CHUNK,
    SIDE,
    TAPS,
    WARP,
    WARPS,
    Crop,
    Rectangle,
    Scratch,
    adjust,
    blur_down,
    blurred_at,
    inside,
    outside,
    prepare_blur,
    resize,
    sum_luma,
    tile_at,
    widen,
)
from cp2fast.copypaste.parameters import CONTRAST
from cp2fast.copypaste.pixel import IMAGENET_MEAN, IMAGENET_STD

_THREADS = WARP * WARPS
_ZERO = np.float32(0)
_MEAN_RED, _MEAN_GREEN, _MEAN_BLUE = IMAGENET_MEAN
_STD_RED, _STD_GREEN, _STD_BLUE = IMAGENET_STD

_normalise = device(pixel.normalise)
_bfloat16_bits, _float16_bits = device(pixel.bfloat16_bits), device(pixel.float16_bits)


class Inputs(NamedTuple):
    """The fields of ``RaggedBatch`` and ``Parameters`` that the kernels read; flags as uint8."""

    pixels: Any
    offset: Any
    width: Any
    source: Any
    box: Any
    flip: Any
    jitter: Any
    factor: Any
    order: Any
    grey: Any
    sigma: Any
    paste: Any


class Output(NamedTuple):
    """Composed images, channels-last, in ``single`` or ``half``, and their masks.

    Attributes:
        single: float32 ``[B, S, S, 3]``, for FLOAT32; otherwise anything.
        half: uint16 ``[B, S, S, 3]``, the bits of BFLOAT16 or FLOAT16; otherwise anything.
        mask: uint8 ``[B, S, S]``.
    """

    single: Any
    half: Any
    mask: Any


@kernel
def mean_luma(inputs: Inputs, size: int, tiles: int, partial: Any) -> None:
    """Sum the luma that contrast will see: of each tile of each view that is jittered.

    Args:
        inputs: valid.
        size: side S of a view.
        tiles: tiles along a side.
        partial: float32 ``[B, V, tiles * tiles]``; one block of WARP x WARPS threads an element.
    """
    planes = cuda.shared.array((3, SIDE, SIDE), float32)
    lines = cuda.shared.array((WARPS, 3, CHUNK), float32)
    first = cuda.shared.array((2, SIDE), int32)
    last = cuda.shared.array((2, SIDE), int32)
    gain = cuda.shared.array((2, SIDE), float32)
    sums = cuda.shared.array(_THREADS, float32)
    view, number = cuda.blockIdx.x // (tiles * tiles), cuda.blockIdx.x % (tiles * tiles)
    b, v = view // 4, view % 4
    if not inputs.jitter[b, v]:
        return
    order = inputs.order[b, v]
    before = 0
    while order[before] != CONTRAST:
        before += 1
    area = tile_at(number, tiles, size)
    rows, columns = area.bottom - area.top, area.right - area.left
    scratch = Scratch(planes, lines, first, last, gain, sums)
    resize(_crop_of(inputs, b, v), size, area, scratch)
    adjust(planes, rows, columns, order, before, inputs.factor[b, v], _ZERO, False)

    thread = cuda.threadIdx.y * WARP + cuda.threadIdx.x
    sums[thread] = sum_luma(planes, rows, columns)
    half = _THREADS // 2
    while half > 0:
        cuda.syncthreads()
        if thread < half:
            sums[thread] += sums[thread + half]
        half //= 2
    if thread == 0:
        partial[b, v, number] = sums[0]


@kernel
def compose(
    inputs: Inputs, pair: int, size: int, tiles: int, partial: Any, kind: int, output: Output
) -> None:
    """Compose the queries (``pair`` 0) or the keys (1).

    Args:
        inputs: valid.
        pair: 0 or 1.
        size: side S of the output.
        tiles: tiles along a side; one block of WARP x WARPS threads a tile.
        partial: of ``mean_luma``.
        kind: FLOAT32, BFLOAT16 or FLOAT16.
        output: written whole.
    """
    planes = cuda.shared.array((3, SIDE, SIDE), float32)
    lines = cuda.shared.array((WARPS, 3, CHUNK), float32)
    first = cuda.shared.array((2, SIDE), int32)
    last = cuda.shared.array((2, SIDE), int32)
    gain = cuda.shared.array((2, SIDE), float32)
    half = cuda.shared.array(TAPS, float32)
    scratch = Scratch(planes, lines, first, last, gain, half)
    b, number = cuda.blockIdx.x // (tiles * tiles), cuda.blockIdx.x % (tiles * tiles)
    tile, paste = tile_at(number, tiles, size), inputs.paste[b, pair]
    for layer in range(2):
        foreground = layer == 0
        v = pair if foreground else pair + 2
        seen = inside(tile, paste) if foreground else outside(tile, paste)
        if seen.top < seen.bottom and seen.left < seen.right:
            radius = int(math.ceil(3.0 * inputs.sigma[b, v]))  # noqa: RUF046 - on a GPU it is a float
            area = widen(seen, radius, size)
            rows, columns = area.bottom - area.top, area.right - area.left
            resize(_crop_of(inputs, b, v), size, area, scratch)
            operations, mean = 0, _ZERO
            if inputs.jitter[b, v]:
                operations = 4
                for i in range(tiles * tiles):
                    mean += partial[b, v, i]
                mean /= np.float32(size * size)
            order, factor = inputs.order[b, v], inputs.factor[b, v]
            adjust(planes, rows, columns, order, operations, factor, mean, inputs.grey[b, v])
            prepare_blur(radius, inputs.sigma[b, v], scratch)
            cuda.syncthreads()
            _finish(b, seen, area, paste, foreground, radius, kind, scratch, output)


@device
def _crop_of(inputs: Inputs, b: int, v: int) -> Crop:
    image, box = inputs.source[b, v], inputs.box[b, v]
    pitch = 3 * inputs.width[image]
    origin = inputs.offset[image] + box[0] * pitch + 3 * box[1]
    return Crop(inputs.pixels, origin, pitch, box[2], box[3], inputs.flip[b, v] != 0)


@device
def _finish(
    b: int,
    seen: Rectangle,
    area: Rectangle,
    paste: Any,
    foreground: bool,
    radius: int,
    kind: int,
    scratch: Scratch,
    output: Output,
) -> None:
    """Blur, normalise and store what is seen of one view; ``area`` is what the planes hold."""
    rows, columns = area.bottom - area.top, area.right - area.left
    planes = scratch.planes
    for group in range(seen.top, seen.bottom, WARPS):
        y = group + cuda.threadIdx.y
        if radius > 0:
            if y < seen.bottom:
                blur_down(scratch, rows, columns, y - area.top, radius)
            sync_warp()
        if y < seen.bottom:
            in_rows = paste[0] <= y and y < paste[0] + paste[2]
            for x in range(seen.left + cuda.threadIdx.x, seen.right, WARP):
                if (in_rows and paste[1] <= x and x < paste[1] + paste[3]) == foreground:
                    i, k = y - area.top, x - area.left
                    red, green, blue = planes[0, i, k], planes[1, i, k], planes[2, i, k]
                    if radius > 0:
                        red = blurred_at(scratch, 0, columns, k, radius)
                        green = blurred_at(scratch, 1, columns, k, radius)
                        blue = blurred_at(scratch, 2, columns, k, radius)
                    _store(output, b, y, x, red, green, blue, kind)
                    output.mask[b, y, x] = foreground
        sync_warp()


@device
def _store(
    output: Output,
    b: int,
    y: int,
    x: int,
    red: np.float32,
    green: np.float32,
    blue: np.float32,
    kind: int,
) -> None:
    red = _normalise(red, _MEAN_RED, _STD_RED)
    green = _normalise(green, _MEAN_GREEN, _STD_GREEN)
    blue = _normalise(blue, _MEAN_BLUE, _STD_BLUE)
    if kind == FLOAT32:
        single = output.single
        single[b, y, x, 0], single[b, y, x, 1], single[b, y, x, 2] = red, green, blue
    elif kind == BFLOAT16:
        half = output.half
        half[b, y, x, 0] = _bfloat16_bits(float_bits(red))
        half[b, y, x, 1] = _bfloat16_bits(float_bits(green))
        half[b, y, x, 2] = _bfloat16_bits(float_bits(blue))
    else:
        half = output.half
        half[b, y, x, 0] = _float16_bits(red, float_bits(red))
        half[b, y, x, 1] = _float16_bits(green, float_bits(green))
        half[b, y, x, 2] = _float16_bits(blue, float_bits(blue))
