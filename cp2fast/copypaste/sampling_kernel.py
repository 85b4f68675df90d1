"""The compiled part of ``sample_parameters``: one pass over the samples, without the GIL.

The random numbers are those of ``philox.py``: Philox4x32-10, block by block. Up to ten tries at a
rectangle are made, only as many as needed. No operation is fused or reordered, so all machines draw
the same parameters.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.jit import exact, keep_compiled
from cp2fast.copypaste.parameters import FLIP, MIRROR, TRANSPOSE
from cp2fast.philox import Stream

_Integers = NDArray[np.int64]
_Words = NDArray[np.int32]
_Floats = NDArray[np.float32]
_Flags = NDArray[np.bool_]
_Key = tuple[int, int]
_Pair = tuple[float, float]
_Four = tuple[float, float, float, float]

_VIEW, _PASTE, _PARTNER = int(Stream.VIEW), int(Stream.PASTE), int(Stream.PARTNER)

# Blocks of four random numbers in the streams VIEW and PASTE; a view or rectangle has 16. The first
# ten are for the tries at a rectangle: area, ratio, top, left.
_BLOCKS = 16
_TRIES = 10
_FACTORS, _COINS, _ORDER, _SIGMA, _TURNS = range(_TRIES, _TRIES + 5)

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_UNIT = 2.0**-32


class Ranges(NamedTuple):
    """Ranges and probabilities; pairs are the lowest and the highest value."""

    crop_area: _Pair  # as a fraction of the image's
    crop_ratio: _Pair  # width over height
    log_crop_ratio: _Pair
    paste_area: _Pair  # of the foreground, as a fraction of the output's
    log_paste_ratio: _Pair  # height over width
    factor_low: _Four  # brightness, contrast, saturation, and hue in turns
    factor_high: _Four
    sigma: _Pair
    jitter: float
    grey: float
    blur: float
    flip: float  # of swapping left and right
    vertical_flip: float
    turn: float  # of a rotation by one, two or three quarter turns


@exact
def _words(
    key: _Key, stream: int, epoch: int, index: int, block: int
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """``philox.words`` for one block."""
    number = np.uint64(index)
    c0, c1 = number & _LOW, (number >> _32) | (np.uint64(block) << np.uint64(16))
    c2, c3 = np.uint64(epoch) & _LOW, np.uint64(stream)
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(10):
        product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1 = (product_1 >> _32) ^ c1 ^ k0, product_1 & _LOW
        c2, c3 = (product_0 >> _32) ^ c3 ^ k1, product_0 & _LOW
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


@exact
def _uniform(key: _Key, stream: int, epoch: int, index: int, block: int) -> _Four:
    """Four numbers in [0, 1)."""
    a, b, c, d = _words(key, stream, epoch, index, block)
    return a * _UNIT, b * _UNIT, c * _UNIT, d * _UNIT


@exact
def _between(random: float, low: float, high: float) -> float:
    return low + random * (high - low)


@exact
def partner_words(key: _Key, epoch: int, index: _Integers, random: NDArray[np.uint64]) -> None:
    """A random word for each sample, whose order is that in which backgrounds are handed on."""
    for i in range(len(index)):
        high, low, _, _ = _words(key, _PARTNER, epoch, index[i], 0)
        random[i] = high << _32 | low


@exact
def sample_views(
    key: _Key,
    epoch: int,
    index: _Integers,
    height: _Words,
    width: _Words,
    source: _Words,
    ranges: Ranges,
    box: _Words,
    orientation: NDArray[np.uint8],
    jitter: _Flags,
    factor: _Floats,
    order: _Words,
    grey: _Flags,
    sigma: _Floats,
) -> None:
    """Fill the arrays from ``box`` on, which belong to ``Parameters``."""
    for b in range(len(source)):
        for v in range(4):
            first, image = v * _BLOCKS, source[b, v]
            _crop(key, epoch, index[b], first, height[image], width[image], ranges, box[b, v])
            random = _uniform(key, _VIEW, epoch, index[b], first + _FACTORS)
            for operation in range(4):
                factor[b, v, operation] = _between(
                    random[operation],
                    ranges.factor_low[operation],
                    ranges.factor_high[operation],
                )
            flip, jitter_, grey_, blur = _uniform(key, _VIEW, epoch, index[b], first + _COINS)
            jitter[b, v], grey[b, v] = jitter_ < ranges.jitter, grey_ < ranges.grey
            _sort(_uniform(key, _VIEW, epoch, index[b], first + _ORDER), order[b, v])
            random = _uniform(key, _VIEW, epoch, index[b], first + _SIGMA)
            sigma[b, v] = (
                _between(random[0], ranges.sigma[0], ranges.sigma[1]) if blur < ranges.blur else 0.0
            )
            random = _uniform(key, _VIEW, epoch, index[b], first + _TURNS)
            orientation[b, v] = _orientation(flip, random, ranges)


@exact
def _orientation(flip: float, random: _Four, ranges: Ranges) -> int:
    """Flips, then a clockwise rotation."""
    mirrored, flipped = flip < ranges.flip, random[0] < ranges.vertical_flip
    quarters = 1 + int(random[2] * 3) if random[1] < ranges.turn else 0
    if quarters >= 2:  # A half turn is both flips.
        mirrored, flipped = not mirrored, not flipped
    transposed = quarters % 2 == 1
    if transposed:  # A quarter turn swaps x and y, then left and right.
        mirrored, flipped = not flipped, mirrored
    return MIRROR * mirrored + FLIP * flipped + TRANSPOSE * transposed


@exact
def sample_pastes(
    key: _Key, epoch: int, index: _Integers, size: int, ranges: Ranges, paste: _Words
) -> None:
    """Fill int32 ``[B, 2, 4]`` with RandomErasing's rectangles in an image of side ``size``.

    If ten tries fail, torchvision erases nothing, but an image without foreground has no loss, so
    the last try is clipped to the largest side instead.
    """
    area, ratio = ranges.paste_area, ranges.log_paste_ratio
    for b in range(len(paste)):
        for pair in range(2):
            for attempt in range(_TRIES):
                random = _uniform(key, _PASTE, epoch, index[b], pair * _BLOCKS + attempt)
                h, w = _sides(random, float(size * size), area, ratio)
                if h < size and w < size:
                    break
            h, w = min(max(h, 1.0), size - 1.0), min(max(w, 1.0), size - 1.0)
            _set(paste[b, pair], _place(random[2], size - h), _place(random[3], size - w), h, w)


@exact
def _crop(
    key: _Key,
    epoch: int,
    index: int,
    first: int,
    height: int,
    width: int,
    ranges: Ranges,
    box: _Words,
) -> None:
    """RandomResizedCrop's box; if ten tries fail, the largest central one with an allowed ratio."""
    whole, area, ratio = float(height * width), ranges.crop_area, ranges.log_crop_ratio
    for attempt in range(_TRIES):
        random = _uniform(key, _VIEW, epoch, index, first + attempt)
        w, h = _sides(random, whole, area, ratio)
        if 0 < w <= width and 0 < h <= height:
            _set(box, _place(random[2], height - h), _place(random[3], width - w), h, w)
            return
    h = min(float(height), max(np.rint(width / ranges.crop_ratio[0]), 1.0))
    w = min(float(width), max(np.rint(height * ranges.crop_ratio[1]), 1.0))
    _set(box, (height - h) // 2, (width - w) // 2, h, w)


@exact
def _sides(random: _Four, whole: float, area: _Pair, log_ratio: _Pair) -> _Pair:
    """Sides of a random rectangle in whole pixels; the ratio is the first over the second."""
    pixels = whole * _between(random[0], area[0], area[1])
    # Uniform in the logarithm, so that a ratio and its inverse are equally likely.
    ratio = math.exp(_between(random[1], log_ratio[0], log_ratio[1]))
    return np.rint(np.sqrt(pixels * ratio)), np.rint(np.sqrt(pixels / ratio))


@exact
def _place(random: float, free: float) -> float:
    """A random integer from 0 to ``free``, inclusive."""
    return math.floor(random * (free + 1))


@exact
def _set(box: _Words, top: float, left: float, height: float, width: float) -> None:
    box[0], box[1], box[2], box[3] = top, left, height, width


@exact
def _sort(random: _Four, order: _Words) -> None:
    """Sort the numbers 0 to 3 by their random numbers."""
    for i in range(4):
        place = i
        while place > 0 and random[order[place - 1]] > random[i]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = i


for _kernel in (partner_words, sample_views, sample_pastes):
    keep_compiled(_kernel)
