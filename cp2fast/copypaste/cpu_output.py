"""The last steps of a view on the CPU: blur, normalise, round, and store channels-last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste import pixel
from cp2fast.copypaste.cpu_jit import jit
from cp2fast.copypaste.pixel import IMAGENET_MEAN, IMAGENET_STD

FLOAT32, BFLOAT16, FLOAT16 = range(3)
"""How the composed images are stored."""

_Floats = NDArray[np.float32]

_ZERO = np.float32(0)
_MEAN_RED, _MEAN_GREEN, _MEAN_BLUE = IMAGENET_MEAN
_STD_RED, _STD_GREEN, _STD_BLUE = IMAGENET_STD

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
    plane: _Floats, y: int, left: int, right: int, half: _Floats, padded: _Floats, out: _Floats
) -> None:
    """Row ``y`` of the blurred plane ``[S, S]``, from column ``left`` to ``right``.

    Vertically into ``padded``, scratch ``[S + 2 radius]``, then horizontally; edge pixels are
    repeated.
    """
    size, radius, length = len(plane), len(half) - 1, right - left
    begin, end = max(left - radius, 0), min(right + radius, size)
    first, last = begin - (left - radius), end - (left - radius)
    vertical, row = padded[first:last], plane[y, begin:end]
    for x in range(len(vertical)):
        vertical[x] = half[0] * row[x]
    for i in range(1, radius + 1):
        above, below = plane[max(y - i, 0), begin:end], plane[min(y + i, size - 1), begin:end]
        _add_pair(vertical, half[i], above, below)
    padded[:first] = padded[first]
    padded[last : length + 2 * radius] = padded[last - 1]
    row = padded[radius : radius + length]
    for x in range(length):
        out[x] = half[0] * row[x]
    for i in range(1, radius + 1):
        _add_pair(out[:length], half[i], padded[radius - i :], padded[radius + i :])


@jit
def _add_pair(out: _Floats, weight: np.float32, before: _Floats, after: _Floats) -> None:
    for x in range(len(out)):
        out[x] += weight * (before[x] + after[x])


@jit
def store(
    red: _Floats, green: _Floats, blue: _Floats, kind: int, row: _Floats, out: NDArray[np.uint8]
) -> None:
    """Normalise and interleave one row into the bytes of ``out``; ``row`` is scratch ``[3 S]``."""
    row = out.view(np.float32) if kind == FLOAT32 else row[: 3 * len(red)]
    for x in range(len(red)):
        row[3 * x] = _normalise(red[x], _MEAN_RED, _STD_RED)
        row[3 * x + 1] = _normalise(green[x], _MEAN_GREEN, _STD_GREEN)
        row[3 * x + 2] = _normalise(blue[x], _MEAN_BLUE, _STD_BLUE)
    bits, half = row.view(np.uint32), out.view(np.uint16)
    if kind == BFLOAT16:
        for i in range(len(row)):
            half[i] = _bfloat16_bits(bits[i])
    elif kind == FLOAT16:
        for i in range(len(row)):
            half[i] = _float16_bits(row[i], bits[i])
