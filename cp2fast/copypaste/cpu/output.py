"""The last steps of a view on the CPU: blur, normalise, round, and store channels-last."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu import pixel
from cp2fast.copypaste.cpu.lanes import WIDE
from cp2fast.copypaste.cpu.load_store import (
    LINE,
    load,
    put,
    put_bfloat16,
    put_float16,
    put_interleaved,
    stream,
)
from cp2fast.copypaste.jit import inline, jit
from cp2fast.copypaste.views import BFLOAT16, FLOAT32

_Floats = NDArray[np.float32]

_gaussian, _normalise = jit(pixel.gaussian), jit(pixel.normalise)


class Output(NamedTuple):
    """The composed images, and how they are stored."""

    mean: _Floats
    std: _Floats
    kind: int  # FLOAT32, BFLOAT16 or FLOAT16
    single: _Floats  # [B S S 3] for FLOAT32, else unused
    half: NDArray[np.uint16]  # bits [B S S 3] for the other types, else unused
    skew: int  # position of the output's start within a cache line of 64 bytes, in values


@jit
def blur_filter(sigma: np.float32, half: _Floats) -> int:
    """Write one side of the Gaussian, from its centre to three standard deviations; its radius."""
    radius = int(np.ceil(3.0 * sigma))
    half[0] = total = np.float32(1)
    for i in range(1, radius + 1):
        half[i] = _gaussian(np.float32(i), sigma)
        total += half[i] + half[i]
    for i in range(radius + 1):
        half[i] /= total
    return radius


@inline
def normalise_row(
    flat: _Floats,
    at: int,
    plane: int,
    left: int,
    right: int,
    mean: _Floats,
    std: _Floats,
    row: _Floats,
) -> int:
    """Normalise part of a row into ``row``; returns the index of the first column's red there."""
    first = left // WIDE * WIDE
    mean_red, mean_green, mean_blue = mean[0], mean[1], mean[2]
    std_red, std_green, std_blue = std[0], std[1], std[2]
    for x in range(first, right, WIDE):
        i = np.uint64(at + x)
        red = _normalise(load(flat, i), mean_red, std_red)
        green = _normalise(load(flat, i + np.uint64(plane)), mean_green, std_green)
        blue = _normalise(load(flat, i + np.uint64(2 * plane)), mean_blue, std_blue)
        put_interleaved(row, np.uint64(3 * (x - first)), red, green, blue)
    return 3 * (left - first)


@inline
def blur_row(
    flat: _Floats,
    size: int,
    pitch: int,
    y: int,
    left: int,
    right: int,
    half: _Floats,
    reach: NDArray[np.uint64],
    padded: _Floats,
    mean: _Floats,
    std: _Floats,
    row: _Floats,
) -> None:
    """Blur, normalise and interleave row ``y`` of the planes, from column ``left`` to ``right``.

    The blur is vertical into ``padded``, then horizontal; edge pixels are repeated. ``half`` is the
    filter, from its centre to one side; ``reach`` is scratch memory too.
    """
    radius, plane, room = len(half) - 1, np.uint64(size * pitch), len(padded) // 3
    begin, end = max(left - radius, 0), min(right + radius, size)
    here, centre = np.uint64(y * pitch), half[0]
    for n in range(1, len(half)):
        reach[0, n], reach[1, n] = max(y - n, 0) * pitch, min(y + n, size - 1) * pitch
    # From a register boundary, so that no load or store spans two cache lines.
    first = begin // WIDE * WIDE
    shift = WIDE - first  # from a column to its place in ``padded``
    for x in range(first, end, WIDE):
        column = np.uint64(x)
        i, j, k = column, column + plane, column + plane + plane
        red = centre * load(flat, i + here)
        green = centre * load(flat, j + here)
        blue = centre * load(flat, k + here)
        for n in range(1, len(half)):
            above, below, weight = reach[0, n], reach[1, n], half[n]
            red = red + weight * (load(flat, i + above) + load(flat, i + below))
            green = green + weight * (load(flat, j + above) + load(flat, j + below))
            blue = blue + weight * (load(flat, k + above) + load(flat, k + below))
        to = x + shift
        put(padded, np.uint64(to), red)
        put(padded, np.uint64(to + room), green)
        put(padded, np.uint64(to + 2 * room), blue)
    for c in range(3):
        at = c * room + shift
        for x in range(left - radius, begin):
            padded[at + x] = padded[at + begin]
        for x in range(end, right + radius):
            padded[at + x] = padded[at + end - 1]
    mean_red, mean_green, mean_blue = mean[0], mean[1], mean[2]
    std_red, std_green, std_blue = std[0], std[1], std[2]
    for x in range(left, right, WIDE):
        i = np.uint64(x + shift)
        j, k = i + np.uint64(room), i + np.uint64(2 * room)
        red, green, blue = (
            centre * load(padded, i),
            centre * load(padded, j),
            centre * load(padded, k),
        )
        for n in range(1, len(half)):
            far, weight = np.uint64(n), half[n]
            red = red + weight * (load(padded, i - far) + load(padded, i + far))
            green = green + weight * (load(padded, j - far) + load(padded, j + far))
            blue = blue + weight * (load(padded, k - far) + load(padded, k + far))
        red = _normalise(red, mean_red, std_red)
        green = _normalise(green, mean_green, std_green)
        blue = _normalise(blue, mean_blue, std_blue)
        put_interleaved(row, np.uint64(3 * (x - left)), red, green, blue)


def padded_length(pitch: int, radius: int) -> int:
    """Floats per channel that ``blur_row`` keeps between its passes, whole registers."""
    return pitch + -(-2 * radius // WIDE) * WIDE + 3 * WIDE


@inline
def store_row(
    row: _Floats,
    short: NDArray[np.uint16],
    first: int,
    count: int,
    output: Output,
    to: int,
) -> None:
    """Round ``count`` values of ``row`` from ``first`` on, and store them at ``to``."""
    kind, skew, half = output.kind, output.skew, output.half
    if kind == FLOAT32:
        _stream_row(output.single, to, row, first, count, LINE // 4, skew)
        return
    for x in range(0, first + count, WIDE):
        i = np.uint64(x)
        if kind == BFLOAT16:
            put_bfloat16(short, i, load(row, i))
        else:
            put_float16(short, i, load(row, i))
    _stream_row(half, to, short, first, count, LINE // 2, skew)


@inline
def _stream_row(
    target: NDArray[np.generic],
    to: int,
    source: NDArray[np.generic],
    first: int,
    count: int,
    lanes: int,
    skew: int,
) -> None:
    """Copy a row to memory that will not be read soon, bypassing the cache for whole lines.

    A cache line holds ``lanes`` values; the target begins ``skew`` values into one.
    """
    head = min(-(skew + to) % lanes, count)
    for x in range(head):
        target[np.uint64(to + x)] = source[np.uint64(first + x)]
    end = head + (count - head) // lanes * lanes
    for x in range(head, end, lanes):
        stream(target, np.uint64(to + x), source, np.uint64(first + x))
    for x in range(end, count):
        target[np.uint64(to + x)] = source[np.uint64(first + x)]
