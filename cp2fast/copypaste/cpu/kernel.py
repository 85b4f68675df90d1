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

from cp2fast.copypaste.cpu.colour import Colour, hue_shifts, linear_gain
from cp2fast.copypaste.cpu.cover import area_of, cover_seen
from cp2fast.copypaste.cpu.lanes import WIDE
from cp2fast.copypaste.cpu.load_store import settle
from cp2fast.copypaste.cpu.output import Output, blur_filter
from cp2fast.copypaste.cpu.rectangle import change_rows, finish, make_columns, make_rows
from cp2fast.copypaste.cpu.resize import Crop, Filter, crop_luma, resize_filter, spread
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
_Words = NDArray[np.int32]

_LOW_HALF = 0xFFFFFFFF
_SPILL = 2 * WIDE
"""Least gap between two rectangles, of which all pixels in their registers are changed."""


class Inputs(NamedTuple):
    """The inputs of the composition."""

    pixels: NDArray[np.uint8]  # [N]
    views: _Words  # [B, V, 16], the table of ``views.py``
    numbers: _Floats  # the same memory as ``views``


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

    Writes the images to ``output`` and the masks ``[B, S, S]`` to ``mask``.
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
    size, cover = w.planes.shape[1], w.cover
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
    order = w.order
    for i in range(4):
        order[i] = flags >> (ORDER + 2 * i) & 3
    hue_shifts(factor, w.hues)
    colour = Colour(order, factor, w.hues, flags >> GREY & 1 != 0)

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
    w.luma[:] = 0
    halo = size if whole else radius
    at_once = not (transposed or whole or radius > 0)
    for i in range(cover_seen(paste, foreground, halo, 0 if at_once else _SPILL, size, cover)):
        area = area_of(cover, i)
        if transposed:
            make_columns(crop, rows, columns, area, w)
            change_rows(colour, 0, operations, area, whole, mean, w)
        else:
            make_rows(
                crop, rows, columns, colour, operations, area, whole, mean, at_once, output, b, w
            )
    if whole:
        mean = _mean_of(w.luma, size)
        for i in range(cover_seen(paste, foreground, radius, _SPILL, size, cover)):
            change_rows(colour, operations, 4, area_of(cover, i), False, mean, w)
    if not at_once:
        for i in range(cover_seen(paste, foreground, 0, 0, size, cover)):
            finish(output, b, area_of(cover, i), radius, w)


@jit
def _mean_of(luma: _Floats, size: int) -> np.float32:
    total = 0.0
    for x in range(size):
        total += luma[x]
    return np.float32(total / (size * size))


keep_compiled(compose)
