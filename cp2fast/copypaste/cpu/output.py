"""The last steps of a view on the CPU: blur, normalise, round, and store channels-last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu import pixel
from cp2fast.copypaste.cpu.simd import WIDE, add_pair, put, stretch
from cp2fast.copypaste.jit import jit
from cp2fast.copypaste.views import BFLOAT16, FLOAT16, FLOAT32

_Floats = NDArray[np.float32]

_1 = np.uint64(1)

_gaussian, _normalise = jit(pixel.gaussian), jit(pixel.normalise)
_bfloat16_bits, _float16_bits = jit(pixel.bfloat16_bits), jit(pixel.float16_bits)


@jit
def blur_filter(sigma: np.float32, taps: _Floats) -> _Floats:
    """The Gaussian over three standard deviations: its centre and one side, in scratch ``taps``."""
    half = taps[: int(np.ceil(3.0 * sigma)) + 1]
    half[0] = total = np.float32(1)
    for i in range(1, len(half)):
        half[i] = _gaussian(np.float32(i), sigma)
        total += half[i] + half[i]
    half /= total
    return half


@jit
def blur_row(
    planes: _Floats,
    y: int,
    left: int,
    right: int,
    half: _Floats,
    reach: NDArray[np.uint64],
    padded: _Floats,
    out: _Floats,
) -> None:
    """Row ``y`` of the blurred ``planes``, from column ``left`` to ``right``, into ``out``.

    Vertically into ``padded``, then horizontally; edge pixels are repeated.

    Args:
        planes: float32 ``[3 S S + WIDE]``.
        y: from 0 to S - 1.
        left: from 0.
        right: to S.
        half: the blur's filter, its centre and one side.
        reach: scratch ``[2, radius + 1]``.
        padded: scratch ``[S + 2 radius + WIDE]``.
        out: ``[3, S + WIDE]``.
    """
    size, radius, length = out.shape[1] - WIDE, len(half) - 1, right - left
    begin, end = max(left - radius, 0), min(right + radius, size)
    first, last = begin - (left - radius), end - (left - radius)
    for i in range(1, len(half)):
        reach[0, i], reach[1, i] = max(y - i, 0) * size, min(y + i, size - 1) * size
    for c in range(3):
        at = c * size * size + begin
        for x in range(0, end - begin, WIDE):
            column = np.uint64(at + x)
            total = stretch(half[0], planes, column + np.uint64(y * size))
            for i in range(1, len(half)):
                total = add_pair(total, half[i], planes, column + reach[0, i], column + reach[1, i])
            put(padded, np.uint64(first + x), total)
        padded[:first] = padded[first]
        padded[last : length + 2 * radius] = padded[last - 1]
        for x in range(0, length, WIDE):
            centre = np.uint64(x + radius)
            total = stretch(half[0], padded, centre)
            before = after = centre
            for i in range(1, len(half)):
                before -= _1
                after += _1
                total = add_pair(total, half[i], padded, before, after)
            put(out[c], np.uint64(x), total)


@jit
def store(
    red: _Floats,
    green: _Floats,
    blue: _Floats,
    mean: _Floats,
    std: _Floats,
    kind: int,
    row: _Floats,
    out: NDArray[np.uint8],
) -> None:
    """Normalise and interleave one row into the bytes of ``out``; ``row`` is scratch ``[3 S]``."""
    row = out.view(np.float32) if kind == FLOAT32 else row[: 3 * len(red)]
    mean_red, mean_green, mean_blue = mean
    std_red, std_green, std_blue = std
    for x in range(len(red)):
        row[3 * x] = _normalise(red[x], mean_red, std_red)
        row[3 * x + 1] = _normalise(green[x], mean_green, std_green)
        row[3 * x + 2] = _normalise(blue[x], mean_blue, std_blue)
    bits, half = row.view(np.uint32), out.view(np.uint16)
    if kind == BFLOAT16:
        for i in range(len(row)):
            half[i] = _bfloat16_bits(bits[i])
    elif kind == FLOAT16:
        for i in range(len(row)):
            half[i] = _float16_bits(row[i], bits[i])
