"""The CUDA kernels of copy-paste.

    mean_luma    a block: a strip of a view            -> luma of its pixels before contrast
    compose      a block: a tile of a composed image   -> its pixels and mask

Both make what they need of a view in shared memory: no pixel of it goes through global memory on
its way to the output. Every sum has a fixed order, so the bits of a sample depend on nothing else.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, types

from cp2fast.copypaste.cuda_colour import adjust, jitter_of
from cp2fast.copypaste.cuda_jit import (
    BYTES,
    FLOATS,
    INTEGER,
    INTEGERS,
    LONGS,
    WARP,
    WARPS,
    WORDS,
    Kernel,
    device,
)
from cp2fast.copypaste.cuda_output import TAPS, Output, finish, prepare_blur
from cp2fast.copypaste.cuda_resize import CHUNK, Crop, resize, shared_filters
from cp2fast.copypaste.cuda_tile import (
    AREA,
    TILE,
    Rectangle,
    foreground_at,
    inside,
    outside,
    tile_at,
    widen,
)
from cp2fast.copypaste.parameters import CONTRAST

_THREADS = WARP * WARPS
_ZERO = np.float32(0)


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


_INPUTS = types.NamedTuple(
    [
        *(BYTES, LONGS, INTEGERS),
        *(INTEGERS, INTEGERS, BYTES, BYTES, FLOATS, INTEGERS, BYTES, FLOATS, INTEGERS),
    ],
    Inputs,
)
_OUTPUT = types.NamedTuple([FLOATS, WORDS, BYTES], Output)


def _mean_luma(inputs: Inputs, size: int, strips: int, partial: Any) -> None:
    """Sum the luma that contrast will see: of each strip of each view that is jittered.

    Args:
        inputs: valid.
        size: side S of a view.
        strips: of TILE rows, in a view.
        partial: float32 ``[B, V, strips]``; one block an element.
    """
    planes = cuda.shared.array((3, AREA), float32)
    lines = cuda.shared.array((WARPS, 3, CHUNK), float32)
    rows, columns = shared_filters()
    sums = cuda.shared.array(_THREADS, float32)
    n, strip = cuda.blockIdx.x // strips, cuda.blockIdx.x % strips
    if not inputs.jitter[n]:
        return
    jitter = jitter_of(inputs.order, inputs.factor, inputs.grey, n)
    before = 0
    while jitter.order[before] != CONTRAST:
        before += 1
    crop, total = _crop_of(inputs, n), _ZERO
    top, bottom = strip * TILE, min(strip * TILE + TILE, size)
    for left in range(0, size, TILE):
        area = Rectangle(top, left, bottom, min(left + TILE, size))
        resize(crop, size, area, rows, columns, lines, planes)
        total += adjust(planes, bottom - top, area.right - left, jitter, before, _ZERO, False)
    thread = np.uint32(cuda.threadIdx.y * WARP + cuda.threadIdx.x)
    sums[thread] = total
    half = np.uint32(_THREADS // 2)
    while half > 0:
        cuda.syncthreads()
        if thread < half:
            sums[thread] += sums[np.uint32(thread + half)]
        half = np.uint32(half >> 1)
    if thread == 0:
        partial[n * strips + strip] = sums[0]


def _compose(
    inputs: Inputs, size: int, tiles: int, partial: Any, kind: int, query: Output, key: Output
) -> None:
    """Compose the queries and the keys.

    Args:
        inputs: valid.
        size: side S of the output.
        tiles: along a side; one block for each tile of each query, then of each key.
        partial: of ``mean_luma``, with as many strips.
        kind: FLOAT32, BFLOAT16 or FLOAT16.
        query: written whole.
        key: written whole.
    """
    planes = cuda.shared.array((3, AREA), float32)
    lines = cuda.shared.array((WARPS, 3, CHUNK), float32)
    rows, columns = shared_filters()
    taps = cuda.shared.array(TAPS, float32)
    image, number = cuda.blockIdx.x // (tiles * tiles), cuda.blockIdx.x % (tiles * tiles)
    b, pair = image // 2, image % 2
    output = query if pair == 0 else key
    tile, paste = tile_at(number, tiles, size), foreground_at(inputs.paste, image)
    for layer in range(2):
        foreground = layer == 0
        n = 4 * b + pair + 2 * layer
        seen = inside(tile, paste) if foreground else outside(tile, paste)
        if seen.top < seen.bottom and seen.left < seen.right:
            sigma = inputs.sigma[n]
            radius = int(math.ceil(np.float32(3) * sigma))  # noqa: RUF046 - on a GPU it is a float
            area = widen(seen, radius)
            resize(_crop_of(inputs, n), size, area, rows, columns, lines, planes)
            prepare_blur(taps, radius, sigma)
            operations, mean = 0, _ZERO
            if inputs.jitter[n]:
                operations = 4
                i = n * tiles
                while i < (n + 1) * tiles:
                    mean += partial[i]
                    i += 1
                mean /= np.float32(np.int32(size * size))
            jitter = jitter_of(inputs.order, inputs.factor, inputs.grey, n)
            adjust(
                planes,
                area.bottom - area.top,
                area.right - area.left,
                jitter,
                operations,
                mean,
                jitter.grey,
            )
            cuda.syncthreads()
            finish(planes, taps, radius, lines, seen, paste, foreground, b, size, kind, output)


@device
def _crop_of(inputs: Inputs, n: int) -> Crop:
    """Of view ``n``, counted over samples and views."""
    image = inputs.source[n]
    top, left, height, width = (
        inputs.box[4 * n],
        inputs.box[4 * n + 1],
        inputs.box[4 * n + 2],
        inputs.box[4 * n + 3],
    )
    pitch = 3 * inputs.width[image]
    origin = inputs.offset[image] + top * pitch + 3 * left
    return Crop(inputs.pixels, origin, pitch, height, width, inputs.flip[n] != 0)


mean_luma = Kernel(_mean_luma, (_INPUTS, INTEGER, INTEGER, FLOATS))
compose = Kernel(_compose, (_INPUTS, INTEGER, INTEGER, FLOATS, INTEGER, _OUTPUT, _OUTPUT))
