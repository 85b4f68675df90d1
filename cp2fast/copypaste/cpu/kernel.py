"""The CPU kernel of copy-paste: what one thread does, and only for the pixels that are seen.

A view passes through four stages, each a loop over rows that the compiler turns into SIMD:
resize into three planes, jitter and grey in place, blur, and normalise while storing. A
foreground is made inside its rectangle and a background outside, plus the blur's halo. Contrast
needs the mean of the whole view: where what comes before it is linear the mean is a weighted sum
of source pixels, otherwise the whole view is made up to there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu.colour import jitter, linear_gain, make_grey, view_luma
from cp2fast.copypaste.cpu.output import blur_filter, blur_row, store
from cp2fast.copypaste.cpu.planes import row_of
from cp2fast.copypaste.cpu.resize import (
    Crop,
    crop_luma,
    most_taps,
    resize,
    resize_filter,
    resize_transposed,
)
from cp2fast.copypaste.cpu.simd import WIDE
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


class Inputs(NamedTuple):
    """What is composed, and how.

    Attributes:
        pixels: uint8 ``[N]``.
        views: int32 ``[B, V, 16]``, the table of ``views.py``.
        numbers: float32 ``[B, V, 16]``, the same memory.
        mean: float32 ``[3]``.
        std: float32 ``[3]``.
    """

    pixels: NDArray[np.uint8]
    views: _Words
    numbers: _Floats
    mean: _Floats
    std: _Floats


class Workspace(NamedTuple):
    """One thread's scratch, for views of side S; float32 unless said otherwise.

    Attributes:
        planes: ``[3, S, S]``, the view before its blur.
        flat: ``[3 S S + WIDE]``, the same memory and what the last register takes along.
        line: a row of the crop, interleaved, between the vertical and the horizontal resize, and
            one float that the last pixel's register takes along.
        totals: what each row or column of the crop weighs.
        weights_y: the vertical filter; and start_y, int64 ``[S]``.
        start_y: see weights_y.
        weights_x: the horizontal filter; and start_x, int64 ``[S]``.
        start_x: see weights_x.
        half: the centre and one side of the blur's filter.
        reach: uint64 ``[2, radius + 1]``, where the rows above and below a blurred one begin.
        padded: ``[S + 2 radius + WIDE]``, a row between the vertical and the horizontal blur.
        blurred: ``[3, S + WIDE]``, a row after both.
        row: ``[3 S]``, a row before it is rounded to 16 bits.
        cover: int64 ``[4, 4]``, rectangles of the view: top, left, bottom, right.
        order: int64 ``[4]``, the jitter operations.
    """

    planes: _Floats
    flat: _Floats
    line: _Floats
    totals: _Floats
    weights_y: _Floats
    start_y: _Integers
    weights_x: _Floats
    start_x: _Integers
    half: _Floats
    reach: NDArray[np.uint64]
    padded: _Floats
    blurred: _Floats
    row: _Floats
    cover: _Integers
    order: _Integers

    @staticmethod
    def allocate(size: int, crop: int, radius: int) -> Workspace:
        """For crops of sides up to ``crop`` and blurs up to ``radius``."""

        def floats(*shape: int) -> _Floats:
            return np.empty(shape, np.float32)

        def integers(*shape: int) -> _Integers:
            return np.empty(shape, np.int64)

        taps = most_taps(crop, size)
        flat = floats(3 * size * size + WIDE)
        return Workspace(
            planes=flat[: 3 * size * size].reshape(3, size, size),
            flat=flat,
            line=floats(3 * crop + 1),
            totals=floats(crop),
            weights_y=floats(size * taps),
            start_y=integers(size),
            weights_x=floats(size * taps),
            start_x=integers(size),
            half=floats(radius + 1),
            reach=np.empty((2, radius + 1), np.uint64),
            padded=floats(size + 2 * radius + WIDE),
            blurred=floats(3, size + WIDE),
            row=floats(3 * size),
            cover=integers(4, 4),
            order=integers(4),
        )


@jit
def compose(
    inputs: Inputs,
    pair: int,
    first: int,
    last: int,
    kind: int,
    out: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    workspace: Workspace,
) -> None:
    """Compose the queries (``pair`` 0) or keys (1) of samples ``first`` to ``last`` - 1.

    Args:
        inputs: valid, and of contiguous arrays.
        pair: 0 or 1.
        first: from here.
        last: to before here.
        kind: FLOAT32, BFLOAT16 or FLOAT16.
        out: ``[B, N]``, the bytes of ``[B, S, S, 3]``.
        mask: ``[B, S, S]``.
        workspace: nobody else's meanwhile.
    """
    for b in range(first, last):
        for foreground, v in ((True, pair), (False, pair + 2)):
            _make_view(inputs, b, v, foreground, kind, out[b], workspace)
        top, left, height, width = inputs.views[b, pair, PASTE : PASTE + 4]
        mask[b] = False
        mask[b, top : top + height, left : left + width] = True


@jit
def _make_view(
    inputs: Inputs,
    b: int,
    v: int,
    foreground: bool,
    kind: int,
    out: NDArray[np.uint8],
    w: Workspace,
) -> None:
    """Make what is seen of one view and store it in ``out``, the bytes of ``[S, S, 3]``."""
    size, planes = len(w.start_x), w.planes
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
    rows = resize_filter(crop.height, flip, w.weights_y, w.start_y)
    columns = resize_filter(crop.width, mirror, w.weights_x, w.start_x)
    half = blur_filter(numbers[SIGMA], w.half)
    radius = len(half) - 1
    order = w.order
    for i in range(4):
        order[i] = flags >> (ORDER + 2 * i) & 3

    # Operations before the mean of the whole view is known, and after.
    before, after, mean, gain = order[:0], order[:0], np.float32(0), np.float32(0)
    if flags >> JITTER & 1:
        contrast = 0
        while order[contrast] != CONTRAST:
            contrast += 1
        before, after = order[:contrast], order[contrast:]
        gain = linear_gain(before, factor)
        if gain >= 0:
            mean = gain * crop_luma(crop, rows, columns, w.line, w.totals)
    whole = gain < 0
    for rectangle in _cover(paste, foreground, size if whole else radius, size, w.cover):
        if transposed:
            resize_transposed(crop, rows, columns, rectangle, w.line, w.row, planes)
        else:
            resize(crop, rows, columns, rectangle, w.line, planes)
        jitter(planes, rectangle, before, factor, mean)
    if whole:
        mean = view_luma(planes, w.row[:size])
    for rectangle in _cover(paste, foreground, radius, size, w.cover):
        jitter(planes, rectangle, after, factor, mean)
        if flags >> GREY & 1:
            make_grey(planes, rectangle)
    for rectangle in _cover(paste, foreground, 0, size, w.cover):
        _finish(inputs, planes, rectangle, half, kind, out, w)


@jit
def _cover(paste: _Words, foreground: bool, halo: int, size: int, cover: _Integers) -> _Integers:
    """Disjoint rectangles over the foreground or over the rest, and ``halo`` pixels around it."""
    top, left, height, width = paste
    bottom, right = top + height, left + width
    if foreground:
        top, left = max(top - halo, 0), max(left - halo, 0)
        bottom, right = min(bottom + halo, size), min(right + halo, size)
        _set_rectangle(cover, 0, top, left, bottom, right)
        return cover[:1]
    top, left, bottom, right = top + halo, left + halo, bottom - halo, right - halo
    if top >= bottom or left >= right:
        _set_rectangle(cover, 0, 0, 0, size, size)
        return cover[:1]
    _set_rectangle(cover, 0, 0, 0, top, size)
    _set_rectangle(cover, 1, top, 0, bottom, left)
    _set_rectangle(cover, 2, top, right, bottom, size)
    _set_rectangle(cover, 3, bottom, 0, size, size)
    return cover


@jit
def _set_rectangle(cover: _Integers, i: int, top: int, left: int, bottom: int, right: int) -> None:
    # Assigning a tuple would have numba compile string formatting, for an error message.
    cover[i, 0], cover[i, 1], cover[i, 2], cover[i, 3] = top, left, bottom, right


@jit
def _finish(
    inputs: Inputs,
    planes: _Floats,
    rectangle: _Integers,
    half: _Floats,
    kind: int,
    out: NDArray[np.uint8],
    w: Workspace,
) -> None:
    """Blur, normalise and store one rectangle."""
    top, left, bottom, right = rectangle
    size = len(w.start_x)
    pixel_bytes = len(out) // (size * size)
    for y in range(top, bottom):
        if len(half) > 1:
            blur_row(w.flat, y, left, right, half, w.reach, w.padded, w.blurred)
            length = right - left
            red, green, blue = w.blurred[0, :length], w.blurred[1, :length], w.blurred[2, :length]
        else:
            red, green, blue = row_of(planes, y, left, right)
        begin, end = (y * size + left) * pixel_bytes, (y * size + right) * pixel_bytes
        store(red, green, blue, inputs.mean, inputs.std, kind, w.row, out[begin:end])


keep_compiled(compose)
