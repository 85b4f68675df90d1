"""The CPU kernel of copy-paste: the work of one thread, on visible pixels only.

A view passes through four stages, row by row and in registers of sixteen pixels: resize into three
planes, jitter and grey in place, blur, and normalise while storing. A foreground is computed inside
its rectangle and a background outside, plus the blur's halo; without a blur a row is stored while
it is in cache, so the planes hold but one. Contrast needs the mean of the whole view: if the
operations before it are linear, the mean is a weighted sum of source pixels; otherwise the whole
view is computed up to that point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu.colour import Colour, change_row, hue_shifts, linear_gain
from cp2fast.copypaste.cpu.cover import Region, cover_seen
from cp2fast.copypaste.cpu.lanes import WIDE
from cp2fast.copypaste.cpu.load_store import LINE, prefetch, settle
from cp2fast.copypaste.cpu.output import Output, blur_filter, blur_row, normalise_row, store_row
from cp2fast.copypaste.cpu.planes import Planes
from cp2fast.copypaste.cpu.resize import (
    QUAD,
    Crop,
    Filter,
    Resize,
    crop_luma,
    resize_filter,
    span,
    spread,
    weigh_columns,
    weigh_rows,
)
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

_Words = NDArray[np.int32]
_Floats = NDArray[np.float32]

_ZERO = np.float32(0)
_LOW_HALF = 0xFFFFFFFF
_SPILL = 2 * WIDE
"""Least gap between two rectangles, of which all pixels in their registers are changed."""
_AHEAD = 4
"""How many rows of a view ahead to prefetch the rows of the crop."""


class Inputs(NamedTuple):
    """The inputs of the composition.

    Attributes:
        pixels: uint8 ``[N]``.
        views: int32 ``[B, V, 16]``, the table of ``views.py``.
        numbers: float32 ``[B, V, 16]``, the same memory as ``views``.
    """

    pixels: NDArray[np.uint8]
    views: _Words
    numbers: _Floats


@jit
def compose(
    inputs: Inputs,
    pair: int,
    first: int,
    last: int,
    output: Output,
    mask: NDArray[np.bool_],
    workspace: Workspace,
) -> None:
    """Compose the queries (``pair`` 0) or keys (1) of samples ``first`` to ``last`` - 1.

    Args:
        inputs: valid inputs in contiguous arrays.
        pair: 0 for queries, 1 for keys.
        first: first sample.
        last: one after the last sample.
        output: the composed images.
        mask: output ``[B, S, S]``.
        workspace: scratch memory that is not shared with other threads.
    """
    for b in range(first, last):
        for foreground, v in ((True, pair), (False, pair + 2)):
            _make_view(inputs, b, v, foreground, output, workspace)
        top, left, height, width = inputs.views[b, pair, PASTE : PASTE + 4]
        mask[b] = False
        mask[b, top : top + height, left : left + width] = True
    settle()


@jit
def _make_view(
    inputs: Inputs, b: int, v: int, foreground: bool, output: Output, w: Workspace
) -> None:
    """Compute the visible part of one view and store it."""
    size = w.planes.size
    view, numbers = inputs.views[b, v], inputs.numbers[b, v]
    paste = view[PASTE : PASTE + 4]
    resize = _prepare_resize(inputs.pixels, view, w)
    colour = _prepare_colour(view, numbers, resize, w)
    radius = blur_filter(numbers[SIGMA], w.half)
    w.luma[:] = 0
    halo = size if colour.whole else radius
    at_once = not (resize.transposed or colour.whole or radius > 0)
    for region in cover_seen(paste, foreground, halo, 0 if at_once else _SPILL, size):
        if resize.transposed:
            _make_columns(resize, region, w)
            _change_rows(colour, region, w)
        else:
            _make_rows(resize, region, colour, at_once, output, b, w)
    if colour.whole:
        mean, first = _mean_of(w.luma, size), colour.last
        rest = Colour(colour.order, colour.factor, colour.hues, colour.grey, first, 4, mean, False)
        for region in cover_seen(paste, foreground, radius, _SPILL, size):
            _change_rows(rest, region, w)
    if not at_once:
        for region in cover_seen(paste, foreground, 0, 0, size):
            _finish(output, b, region, radius, w)


@jit
def _prepare_resize(pixels: NDArray[np.uint8], view: _Words, w: Workspace) -> Resize:
    """Compute the filters of a view, which include its mirroring."""
    size, orientation = w.planes.size, view[FLAGS] >> ORIENTATION
    origin = int(view[START + 1]) << 32 | int(view[START]) & _LOW_HALF
    crop = Crop(pixels, origin, view[PITCH], view[HEIGHT], view[WIDTH])
    transposed = orientation & TRANSPOSE != 0
    mirror, flip = orientation & MIRROR != 0, orientation & FLIP != 0
    if transposed:  # The view's x is the crop's y.
        mirror, flip = flip, mirror
    taps = resize_filter(crop.height, size, flip, w.weights_y, w.start_y)
    rows = Filter(w.weights_y[: size * taps].reshape(size, taps), w.start_y)
    taps = resize_filter(crop.width, size, mirror, w.weights_x, w.start_x)
    columns = Filter(w.weights_x[: size * taps].reshape(size, taps), w.start_x)
    spread(columns, w.wide)
    return Resize(crop, rows, columns, transposed)


@jit
def _prepare_colour(view: _Words, numbers: _Floats, resize: Resize, w: Workspace) -> Colour:
    """The first pass of colour operations of a view.

    It has those before contrast if that needs the mean of the whole view, else all of them.
    """
    flags, order, factor = view[FLAGS], w.order, numbers[FACTOR : FACTOR + 4]
    for i in range(4):
        order[i] = flags >> (ORDER + 2 * i) & 3
    hue_shifts(factor, w.hues)
    grey = flags >> GREY & 1 != 0
    last, mean, whole = 0, _ZERO, False
    if flags >> JITTER & 1:
        before = 0
        while order[before] != CONTRAST:
            before += 1
        gain = linear_gain(order, before, factor)
        whole, last = gain < 0, before if gain < 0 else 4
        if not whole:
            mean = gain * crop_luma(resize, w.line, w.totals)
    return Colour(order, factor, w.hues, grey, 0, last, mean, whole)


@jit
def _make_rows(
    resize: Resize,
    region: Region,
    colour: Colour,
    at_once: bool,
    output: Output,
    b: int,
    w: Workspace,
) -> None:
    """Resize a region row by row, and change its colours while the row is in cache.

    Each row is then stored if this is the whole work, ``at_once``. Otherwise all pixels that share
    a register with the region's may be overwritten.
    """
    top, left, bottom, right = region
    if left >= right:
        return
    # Local variables, as the workspace is too long to be passed for every row.
    planes, wide, line, luma, row, short = w.planes, w.wide, w.line, w.luma, w.row, w.short
    columns, starts, down = resize.columns, resize.rows.start, resize.rows.weights.shape[1]
    pixels, origin, source_pitch = resize.crop.pixels, resize.crop.origin, resize.crop.pitch
    first, last = left // QUAD * QUAD, -(-right // QUAD) * QUAD
    begin, end = span(columns.start, columns.weights.shape[1], first, last)
    fetched = starts[top] + down
    for y in range(top, bottom):
        wanted = starts[min(y + _AHEAD, bottom - 1)] + down
        for source_row in range(fetched, wanted):
            source = origin + source_row * source_pitch
            for i in range(begin, end, LINE):
                prefetch(pixels, np.uint64(source + i))
        fetched = max(fetched, wanted)
        weigh_rows(resize, y, line, begin, end)
        to_row = 0 if at_once else y
        weigh_columns(columns, wide, line, first, last, planes, to_row)
        change_row(planes, to_row, left, right, colour, luma)
        if at_once:
            skip = normalise_row(planes, to_row, left, right, output, row)
            to = 3 * ((b * planes.size + y) * planes.size + left)
            store_row(row, short, skip, 3 * (right - left), output, to)


@jit
def _make_columns(resize: Resize, region: Region, w: Workspace) -> None:
    """The resize of ``_make_rows`` for a transposed view.

    The filters refer to the crop's own axes: a row of the resize becomes a column of the view.
    """
    top, left, bottom, right = region
    if top >= bottom:
        return
    wide, line, columns, flat, column = w.wide, w.line, resize.columns, w.planes.flat, w.row
    size, pitch = w.planes.size, w.planes.pitch
    as_row = Planes(column, 1, pitch)
    first, last = top // QUAD * QUAD, -(-bottom // QUAD) * QUAD
    begin, end = span(columns.start, columns.weights.shape[1], first, last)
    for x in range(left, right):
        weigh_rows(resize, x, line, begin, end)
        weigh_columns(columns, wide, line, first, last, as_row, 0)
        for c in range(3):
            for y in range(top, bottom):
                flat[(c * size + y) * pitch + x] = column[c * pitch + y]


@jit
def _change_rows(colour: Colour, region: Region, w: Workspace) -> None:
    """Apply a pass of colour operations to a region; see ``change_row``."""
    planes, luma = w.planes, w.luma
    for y in range(region.top, region.bottom):
        change_row(planes, y, region.left, region.right, colour, luma)


@jit
def _mean_of(luma: _Floats, size: int) -> np.float32:
    total = 0.0
    for x in range(size):
        total += luma[x]
    return np.float32(total / (size * size))


@jit
def _finish(output: Output, b: int, region: Region, radius: int, w: Workspace) -> None:
    """Blur, normalise and store one region."""
    top, left, bottom, right = region
    planes, reach, padded, row, short = w.planes, w.reach, w.padded, w.row, w.short
    half, size = w.half[: radius + 1], planes.size
    for y in range(top, bottom if left < right else top):
        skip = 0
        if radius > 0:
            blur_row(planes, y, left, right, half, reach, padded, output, row)
        else:
            skip = normalise_row(planes, y, left, right, output, row)
        to = 3 * ((b * size + y) * size + left)
        store_row(row, short, skip, 3 * (right - left), output, to)


keep_compiled(compose)
