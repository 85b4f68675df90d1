"""The CPU kernel of copy-paste: the work of one thread, on visible pixels only.

A view passes through four stages, each a loop over rows that the compiler vectorises: resize into
three planes, jitter and grey in place, blur, and normalise while storing. A foreground is computed
inside its rectangle and a background outside, plus the blur's halo. Contrast needs the mean of the
whole view: if the operations before it are linear, the mean is a weighted sum of source pixels;
otherwise the whole view is computed up to that point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu.colour import add_luma, jitter_row, linear_gain, make_grey
from cp2fast.copypaste.cpu.cover import cover_seen
from cp2fast.copypaste.cpu.output import blur_filter, blur_row, store
from cp2fast.copypaste.cpu.resize import (
    QUAD,
    Crop,
    Filter,
    crop_luma,
    resize_filter,
    span,
    spread,
    weigh_columns,
    weigh_rows,
)
from cp2fast.copypaste.cpu.simd import LINE, prefetch, settle
from cp2fast.copypaste.cpu.workspace import Workspace
from cp2fast.copypaste.jit import jit, keep_compiled
from cp2fast.copypaste.parameters import CONTRAST, FLIP, MIRROR, TRANSPOSE
from cp2fast.copypaste.views import (
    FACTOR,
    FLAGS,
    GREY,
    HEIGHT,
    JITTER,
    ORDER,
    ORIENTATION,
    PASTE,
    PITCH,
    SIGMA,
    START,
    WIDTH,
)

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]
_Words = NDArray[np.int32]

_LOW_HALF = 0xFFFFFFFF
_SPILL = 2 * QUAD
"""Gap between two rectangles of a resize, which also writes some pixels on either side."""
_AHEAD = 4
"""How many rows of a view ahead to prefetch the rows of the crop."""


class Inputs(NamedTuple):
    """The inputs of the composition.

    Attributes:
        pixels: uint8 ``[N]``.
        views: int32 ``[B, V, 16]``, the table of ``views.py``.
        numbers: float32 ``[B, V, 16]``, the same memory as ``views``.
        mean: float32 ``[3]``, mean of each channel.
        std: float32 ``[3]``, standard deviation of each channel.
    """

    pixels: NDArray[np.uint8]
    views: _Words
    numbers: _Floats
    mean: _Floats
    std: _Floats


class Colour(NamedTuple):
    """The colour operations of a view.

    Attributes:
        order: int64 ``[4]``, the jitter operations.
        factor: float32 ``[4]``, factors of the operations.
        grey: whether the view is converted to grey.
    """

    order: _Integers
    factor: _Floats
    grey: bool


@jit
def compose(
    inputs: Inputs,
    pair: int,
    first: int,
    last: int,
    kind: int,
    single: _Floats,
    half: NDArray[np.uint16],
    skew: int,
    mask: NDArray[np.bool_],
    workspace: Workspace,
) -> None:
    """Compose the queries (``pair`` 0) or keys (1) of samples ``first`` to ``last`` - 1.

    Args:
        inputs: valid inputs in contiguous arrays.
        pair: 0 for queries, 1 for keys.
        first: first sample.
        last: one after the last sample.
        kind: FLOAT32, BFLOAT16 or FLOAT16.
        single: output ``[B S S 3]`` for FLOAT32, else unused.
        half: output bits ``[B S S 3]`` for the other types, else unused.
        skew: position of the output's start within a cache line of 64 bytes, in values.
        mask: output ``[B, S, S]``.
        workspace: scratch memory that is not shared with other threads.
    """
    for b in range(first, last):
        for foreground, v in ((True, pair), (False, pair + 2)):
            _make_view(inputs, b, v, foreground, kind, single, half, skew, workspace)
        top, left, height, width = inputs.views[b, pair, PASTE : PASTE + 4]
        mask[b] = False
        mask[b, top : top + height, left : left + width] = True
    settle()


@jit
def _make_view(
    inputs: Inputs,
    b: int,
    v: int,
    foreground: bool,
    kind: int,
    single: _Floats,
    half: NDArray[np.uint16],
    skew: int,
    w: Workspace,
) -> None:
    """Compute the visible part of one view and store it."""
    size = w.planes.shape[1]
    view, numbers = inputs.views[b, v], inputs.numbers[b, v]
    paste, factor = view[PASTE : PASTE + 4], numbers[FACTOR : FACTOR + 4]
    flags = view[FLAGS]
    origin = int(view[START + 1]) << 32 | int(view[START]) & _LOW_HALF
    crop = Crop(inputs.pixels, origin, view[PITCH], view[HEIGHT], view[WIDTH])
    orientation = flags >> ORIENTATION
    transposed = orientation & TRANSPOSE != 0
    mirror, flip = orientation & MIRROR != 0, orientation & FLIP != 0
    if transposed:  # The view's x is the crop's y.
        mirror, flip = flip, mirror
    taps = resize_filter(crop.height, size, flip, w.weights_y, w.start_y)
    rows = Filter(w.weights_y[: size * taps].reshape(size, taps), w.start_y)
    taps = resize_filter(crop.width, size, mirror, w.weights_x, w.start_x)
    columns = Filter(w.weights_x[: size * taps].reshape(size, taps), w.start_x)
    spread(columns, w.wide)
    radius = blur_filter(numbers[SIGMA], w.half)
    blur = w.half[: radius + 1]
    order = w.order
    for i in range(4):
        order[i] = flags >> (ORDER + 2 * i) & 3

    # Operations to apply immediately: those before contrast if it needs the mean of the whole view,
    # else all.
    operations, whole, mean = 0, False, np.float32(0)
    if flags >> JITTER & 1:
        before = 0
        while order[before] != CONTRAST:
            before += 1
        gain = linear_gain(order, before, factor)
        whole, operations = gain < 0, before if gain < 0 else 4
        if not whole:
            mean = gain * crop_luma(crop, rows, columns, w.line, w.totals)
    colour = Colour(order, factor, flags >> GREY & 1 != 0)
    count = cover_seen(paste, foreground, size if whole else radius, _SPILL, size, w.cover)
    w.luma[:size] = 0
    for i in range(count):
        top, left, bottom, right = w.cover[i, 0], w.cover[i, 1], w.cover[i, 2], w.cover[i, 3]
        if transposed:
            _make_columns(crop, rows, columns, top, left, bottom, right, w)
            _change_rows(colour, 0, operations, top, left, bottom, right, whole, mean, w)
        else:
            _make_rows(
                crop, rows, columns, colour, operations, top, left, bottom, right, whole, mean, w
            )
    if whole:
        mean = _mean_of(w.luma, size)
        count = cover_seen(paste, foreground, radius, 0, size, w.cover)
        for i in range(count):
            top, left, bottom, right = w.cover[i, 0], w.cover[i, 1], w.cover[i, 2], w.cover[i, 3]
            _change_rows(colour, operations, 4, top, left, bottom, right, False, mean, w)
    count = cover_seen(paste, foreground, 0, 0, size, w.cover)
    for i in range(count):
        top, left, bottom, right = w.cover[i, 0], w.cover[i, 1], w.cover[i, 2], w.cover[i, 3]
        _finish(
            inputs.mean, inputs.std, b, top, left, bottom, right, blur, kind, single, half, skew, w
        )


@jit
def _make_rows(
    crop: Crop,
    rows: Filter,
    columns: Filter,
    colour: Colour,
    operations: int,
    top: int,
    left: int,
    bottom: int,
    right: int,
    whole: bool,
    mean: np.float32,
    w: Workspace,
) -> None:
    """Resize a rectangle row by row, and change its colours while the row is in cache.

    Up to three pixels on each side of the rectangle are overwritten.
    """
    if left >= right:
        return
    # Local variables, because each access to a tuple counts a reference.
    pixels, weights, starts, start = crop.pixels, rows.weights, rows.start, columns.start
    wide, line, flat, luma = w.wide, w.line, w.flat, w.luma
    size, pitch = w.planes.shape[1:]
    plane, taps, length = size * pitch, columns.weights.shape[1], right - left
    first, last = left // QUAD * QUAD, -(-right // QUAD) * QUAD
    begin, end = span(start, taps, first, last)
    fetched = starts[top] + weights.shape[1]
    for y in range(top, bottom):
        wanted = starts[min(y + _AHEAD, bottom - 1)] + weights.shape[1]
        for row in range(fetched, wanted):
            source = crop.origin + row * crop.pitch
            for i in range(begin, end, LINE):
                prefetch(pixels, np.uint64(source + i))
        fetched = max(fetched, wanted)
        at = crop.origin + starts[y] * crop.pitch
        weigh_rows(pixels, at, crop.pitch, weights, y, line, begin, end)
        weigh_columns(line, start, wide, first, last, taps, flat, y * pitch, plane)
        place = y * pitch + left
        _change_row(flat, place, plane, length, colour, 0, operations, mean, whole, luma)


@jit
def _make_columns(
    crop: Crop,
    rows: Filter,
    columns: Filter,
    top: int,
    left: int,
    bottom: int,
    right: int,
    w: Workspace,
) -> None:
    """The resize of ``_make_rows`` for a view with x and y swapped.

    The filters refer to the crop's own axes: a row of the resize becomes a column of the view.
    """
    if top >= bottom:
        return
    pixels, weights, starts, start = crop.pixels, rows.weights, rows.start, columns.start
    wide, line, flat, row = w.wide, w.line, w.flat, w.row
    size, pitch = w.planes.shape[1:]
    plane, taps = size * pitch, columns.weights.shape[1]
    first, last = top // QUAD * QUAD, -(-bottom // QUAD) * QUAD
    begin, end = span(start, taps, first, last)
    for x in range(left, right):
        at = crop.origin + starts[x] * crop.pitch
        weigh_rows(pixels, at, crop.pitch, weights, x, line, begin, end)
        weigh_columns(line, start, wide, first, last, taps, row, 0, pitch)
        for c in range(3):
            for y in range(top, bottom):
                flat[c * plane + y * pitch + x] = row[c * pitch + y]


@jit
def _change_rows(
    colour: Colour,
    first: int,
    last: int,
    top: int,
    left: int,
    bottom: int,
    right: int,
    whole: bool,
    mean: np.float32,
    w: Workspace,
) -> None:
    """Apply operations ``first`` to ``last`` - 1 to a rectangle; see ``_change_row``."""
    flat, luma = w.flat, w.luma
    size, pitch = w.planes.shape[1:]
    plane, length = size * pitch, right - left
    for y in range(top, bottom):
        _change_row(flat, y * pitch + left, plane, length, colour, first, last, mean, whole, luma)


@jit
def _change_row(
    flat: _Floats,
    place: int,
    plane: int,
    length: int,
    colour: Colour,
    first: int,
    last: int,
    mean: np.float32,
    whole: bool,
    luma: _Floats,
) -> None:
    """Apply operations ``first`` to ``last`` - 1 to part of a row.

    After the operations before contrast, the luma is summed if this is for the ``whole`` view.
    After all other operations, the row is converted to grey if requested.
    """
    jitter_row(flat, place, plane, length, colour.order, first, last, colour.factor, mean)
    if whole:
        add_luma(flat, place, plane, luma, length)
    elif colour.grey:
        make_grey(flat, place, plane, length)


@jit
def _mean_of(luma: _Floats, size: int) -> np.float32:
    total = 0.0
    for x in range(size):
        total += luma[x]
    return np.float32(total / (size * size))


@jit
def _finish(
    mean: _Floats,
    std: _Floats,
    b: int,
    top: int,
    left: int,
    bottom: int,
    right: int,
    blur: _Floats,
    kind: int,
    single: _Floats,
    half: NDArray[np.uint16],
    skew: int,
    w: Workspace,
) -> None:
    """Blur, normalise and store one rectangle."""
    flat, reach, padded, blurred = w.flat, w.reach, w.padded, w.blurred
    row, bits, short = w.row, w.bits, w.short
    size, pitch = w.planes.shape[1:]
    length = right - left
    for y in range(top, bottom):
        to = 3 * ((b * size + y) * size + left)
        if len(blur) > 1:
            blur_row(flat, size, pitch, y, left, right, blur, reach, padded, blurred)
            store(
                blurred, 0, pitch, length, mean, std, kind, row, bits, short, single, half, skew, to
            )
        else:
            at, plane = y * pitch + left, size * pitch
            store(
                flat, at, plane, length, mean, std, kind, row, bits, short, single, half, skew, to
            )


keep_compiled(compose)
