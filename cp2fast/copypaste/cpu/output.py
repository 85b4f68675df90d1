"""The last steps of a view on the CPU: blur, normalise, round, and store channels-last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu import pixel
from cp2fast.copypaste.cpu.simd import LINE, WIDE, add_pair, put, stream, stretch
from cp2fast.copypaste.jit import jit
from cp2fast.copypaste.views import BFLOAT16, FLOAT32

_Floats = NDArray[np.float32]

_1, _2 = np.uint64(1), np.uint64(2)

_gaussian, _normalise = jit(pixel.gaussian), jit(pixel.normalise)
_bfloat16_bits, _float16_bits = jit(pixel.bfloat16_bits), jit(pixel.float16_bits)


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


@jit
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
    out: _Floats,
) -> None:
    """Blur row ``y`` of the planes, from column ``left`` to ``right``, into ``out``.

    First vertically into ``padded``, then horizontally; edge pixels are repeated.

    Args:
        flat: the planes, float32 ``[3 S pitch + WIDE]``.
        size: S.
        pitch: distance between the rows of a plane.
        y: row, from 0 to S - 1.
        left: first column, from 0.
        right: one after the last column, at most S.
        half: the blur's filter, from its centre to one side.
        reach: scratch ``[2, radius + 1]``.
        padded: scratch ``[pitch + 2 radius + 2 WIDE]``.
        out: float32 ``[3 pitch + WIDE]``.
    """
    radius, length = len(half) - 1, right - left
    begin, end = max(left - radius, 0), min(right + radius, size)
    first, last = begin - (left - radius), end - (left - radius)
    # Start at a register boundary, so that no vertical load spans two cache lines.
    aligned = begin // WIDE * WIDE
    skip = begin - aligned
    for i in range(1, len(half)):
        reach[0, i], reach[1, i] = max(y - i, 0) * pitch, min(y + i, size - 1) * pitch
    for c in range(3):
        at = c * size * pitch
        for x in range(aligned, end, WIDE):
            column = np.uint64(at + x)
            total = stretch(half[0], flat, column + np.uint64(y * pitch))
            for i in range(1, len(half)):
                total = add_pair(total, half[i], flat, column + reach[0, i], column + reach[1, i])
            put(padded, np.uint64(first + x - aligned), total)
        for x in range(skip, skip + first):
            padded[x] = padded[skip + first]
        for x in range(skip + last, skip + length + 2 * radius):
            padded[x] = padded[skip + last - 1]
        for x in range(0, length, WIDE):
            centre = np.uint64(skip + x + radius)
            total = stretch(half[0], padded, centre)
            before = after = centre
            for i in range(1, len(half)):
                before -= _1
                after += _1
                total = add_pair(total, half[i], padded, before, after)
            put(out, np.uint64(c * pitch + x), total)


@jit
def store(
    flat: _Floats,
    at: int,
    plane: int,
    length: int,
    mean: _Floats,
    std: _Floats,
    kind: int,
    row: _Floats,
    bits: NDArray[np.uint32],
    short: NDArray[np.uint16],
    single: _Floats,
    half: NDArray[np.uint16],
    skew: int,
    to: int,
) -> None:
    """Normalise and interleave part of a row.

    Args:
        flat: the three planes.
        at: start of the part in the red plane.
        plane: distance between the channels' planes.
        length: number of pixels.
        mean: float32 ``[3]``, mean of each channel.
        std: float32 ``[3]``, standard deviation of each channel.
        kind: FLOAT32, BFLOAT16 or FLOAT16.
        row: scratch ``[3 length]``.
        bits: the same memory as uint32.
        short: scratch ``[3 length]``.
        single: output for float32.
        half: output for the other types.
        skew: position of the output's start within a cache line, in values.
        to: index of the first value in the output.
    """
    _interleave(flat, at, plane, length, mean, std, row, 0)
    if kind == FLOAT32:
        _stream_row(single, to, row, 3 * length, LINE // 4, skew)
        return
    if kind == BFLOAT16:
        for x in range(3 * length):
            i = np.uint64(x)
            short[i] = _bfloat16_bits(bits[i])
    else:
        for x in range(3 * length):
            i = np.uint64(x)
            short[i] = _float16_bits(row[i], bits[i])
    _stream_row(half, to, short, 3 * length, LINE // 2, skew)


@jit
def _stream_row(
    target: NDArray[np.generic],
    to: int,
    source: NDArray[np.generic],
    count: int,
    lanes: int,
    skew: int,
) -> None:
    """Copy a row to memory that will not be read soon, bypassing the cache for whole lines.

    A cache line holds ``lanes`` values; the target begins ``skew`` values into one.
    """
    head = min(-(skew + to) % lanes, count)
    for x in range(head):
        i = np.uint64(x)
        target[np.uint64(to) + i] = source[i]
    end = head + (count - head) // lanes * lanes
    for x in range(head, end, lanes):
        stream(target, np.uint64(to + x), source, np.uint64(x))
    for x in range(end, count):
        i = np.uint64(x)
        target[np.uint64(to) + i] = source[i]


@jit
def _interleave(
    flat: _Floats,
    at: int,
    plane: int,
    length: int,
    mean: _Floats,
    std: _Floats,
    out: _Floats,
    to: int,
) -> None:
    red, first = np.uint64(at), np.uint64(to)
    green, blue = red + np.uint64(plane), red + np.uint64(2 * plane)
    mean_red, mean_green, mean_blue = mean[0], mean[1], mean[2]
    std_red, std_green, std_blue = std[0], std[1], std[2]
    for x in range(length):
        i = np.uint64(x)
        o = first + np.uint64(3 * x)
        out[o] = _normalise(flat[red + i], mean_red, std_red)
        out[o + _1] = _normalise(flat[green + i], mean_green, std_green)
        out[o + _2] = _normalise(flat[blue + i], mean_blue, std_blue)
