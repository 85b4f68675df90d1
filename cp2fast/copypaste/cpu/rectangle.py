"""The stages of the CPU kernel on one rectangle of a view, row by row."""

from __future__ import annotations

import numpy as np

from cp2fast.copypaste.cpu.colour import Colour, change_row
from cp2fast.copypaste.cpu.cover import Area
from cp2fast.copypaste.cpu.load_store import LINE, prefetch
from cp2fast.copypaste.cpu.output import Output, blur_row, normalise_row, store_row
from cp2fast.copypaste.cpu.resize import QUAD, Crop, Filter, span, weigh_columns, weigh_rows
from cp2fast.copypaste.cpu.workspace import Workspace
from cp2fast.copypaste.jit import jit

_AHEAD = 4
"""How many rows of a view ahead to prefetch the rows of the crop."""


@jit
def make_rows(
    crop: Crop,
    rows: Filter,
    columns: Filter,
    colour: Colour,
    operations: int,
    area: Area,
    whole: bool,
    mean: np.float32,
    at_once: bool,
    output: Output,
    b: int,
    w: Workspace,
) -> None:
    """Resize a rectangle row by row, and change its colours while the row is in cache.

    Each row is then stored if this is the whole work, ``at_once``. Otherwise all pixels that share
    a register with the rectangle's may be overwritten.
    """
    top, left, bottom, right = area
    if left >= right:
        return
    # Local variables, as the workspace is too long to be passed for every row.
    pixels, weights, starts, start = crop.pixels, rows.weights, rows.start, columns.start
    wide, line, flat, luma = w.wide, w.line, w.flat, w.luma
    row, short = w.row, w.short
    size, pitch = w.planes.shape[1:]
    plane, down, along = size * pitch, weights.shape[1], columns.weights.shape[1]
    first, last = left // QUAD * QUAD, -(-right // QUAD) * QUAD
    begin, end = span(start, along, first, last)
    fetched = starts[top] + down
    for y in range(top, bottom):
        wanted = starts[min(y + _AHEAD, bottom - 1)] + down
        for source_row in range(fetched, wanted):
            source = crop.origin + source_row * crop.pitch
            for i in range(begin, end, LINE):
                prefetch(pixels, np.uint64(source + i))
        fetched = max(fetched, wanted)
        at = crop.origin + starts[y] * crop.pitch
        weigh_rows(down, pixels, at, crop.pitch, weights, y, line, begin, end)
        at = 0 if at_once else y * pitch
        weigh_columns(along, line, start, wide, first, last, flat, at, plane)
        change_row(flat, at, plane, left, right, colour, 0, operations, mean, whole, luma)
        if at_once:
            skip = normalise_row(flat, at, plane, left, right, output.mean, output.std, row)
            to = 3 * ((b * size + y) * size + left)
            store_row(row, short, skip, 3 * (right - left), output, to)


@jit
def make_columns(crop: Crop, rows: Filter, columns: Filter, area: Area, w: Workspace) -> None:
    """The resize of ``make_rows`` for a view with x and y swapped.

    The filters refer to the crop's own axes: a row of the resize becomes a column of the view.
    """
    top, left, bottom, right = area
    if top >= bottom:
        return
    pixels, weights, starts, start = crop.pixels, rows.weights, rows.start, columns.start
    wide, line, flat, row = w.wide, w.line, w.flat, w.row
    size, pitch = w.planes.shape[1:]
    plane, down, along = size * pitch, weights.shape[1], columns.weights.shape[1]
    first, last = top // QUAD * QUAD, -(-bottom // QUAD) * QUAD
    begin, end = span(start, along, first, last)
    for x in range(left, right):
        at = crop.origin + starts[x] * crop.pitch
        weigh_rows(down, pixels, at, crop.pitch, weights, x, line, begin, end)
        weigh_columns(along, line, start, wide, first, last, row, 0, pitch)
        for c in range(3):
            for y in range(top, bottom):
                flat[c * plane + y * pitch + x] = row[c * pitch + y]


@jit
def change_rows(
    colour: Colour, first: int, last: int, area: Area, whole: bool, mean: np.float32, w: Workspace
) -> None:
    """Apply operations ``first`` to ``last`` - 1 to a rectangle; see ``change_row``."""
    top, left, bottom, right = area
    flat, luma = w.flat, w.luma
    size, pitch = w.planes.shape[1:]
    plane = size * pitch
    for y in range(top, bottom):
        at = y * pitch
        change_row(flat, at, plane, left, right, colour, first, last, mean, whole, luma)


@jit
def finish(output: Output, b: int, area: Area, radius: int, w: Workspace) -> None:
    """Blur, normalise and store one rectangle."""
    top, left, bottom, right = area
    flat, reach, padded, row, short = w.flat, w.reach, w.padded, w.row, w.short
    half, mean, std = w.half[: radius + 1], output.mean, output.std
    size, pitch = w.planes.shape[1:]
    for y in range(top, bottom if left < right else top):
        skip = 0
        if radius > 0:
            blur_row(flat, size, pitch, y, left, right, half, reach, padded, mean, std, row)
        else:
            skip = normalise_row(flat, y * pitch, size * pitch, left, right, mean, std, row)
        to = 3 * ((b * size + y) * size + left)
        store_row(row, short, skip, 3 * (right - left), output, to)
