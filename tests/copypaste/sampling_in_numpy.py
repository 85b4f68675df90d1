"""The draws once more, array by array in numpy: what the compiled ones are held to, bit by bit."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.parameters import Parameters
from cp2fast.philox import Stream, uniform, words

CROP_AREA = (0.2, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
"""Of the crop, width over height."""
PASTE_AREA = (0.5, 0.8)
PASTE_RATIO = (0.8, 1.25)
"""Of the foreground rectangle, height over width."""
FACTOR_LOW = (0.6, 0.6, 0.6, -0.1)
FACTOR_HIGH = (1.4, 1.4, 1.4, 0.1)
"""Brightness, contrast, saturation, and hue in turns."""
FLIP, JITTER, GREY, BLUR = 0.5, 0.8, 0.2, 0.5
"""Probabilities."""
SIGMA = (0.1, 2.0)

Background = Literal["batch", "independent", "none"]

_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]

# Blocks of four random numbers in the streams VIEW and PASTE; a view or rectangle has 16. The first
# ten are the tries at a rectangle: area, ratio, top, left.
_BLOCKS = 16
_TRIES = 10
_FACTORS, _COINS, _ORDER, _SIGMA = range(_TRIES, _TRIES + 4)


def draw_in_numpy(
    seed: int, epoch: int, batch: RaggedBatch, size: int, background: Background
) -> Parameters:
    """As ``draw`` with the paper's settings."""
    height, width, index = (
        field.numpy().astype(np.int64) for field in (batch.height, batch.width, batch.index)
    )
    if background == "batch":
        query, key = _partners(seed, epoch, index)
    elif background == "none":
        query = key = np.arange(len(index))
    else:
        query, key = np.arange(len(index)).reshape(3, -1)[1:]
    foreground = np.arange(len(query))
    source = np.stack([foreground, foreground, query, key], axis=1)

    random = _random(seed, Stream.VIEW, epoch, index[foreground], parts=4, blocks=_TRIES + 4)
    coins = random[:, :, _COINS]
    factor = _between(random[:, :, _FACTORS], np.array(FACTOR_LOW), np.array(FACTOR_HIGH))
    sigma = np.where(coins[..., 3] < BLUR, _between(random[:, :, _SIGMA, 0], *SIGMA), 0)
    if background == "none":
        paste = np.broadcast_to([0, 0, size, size], (len(foreground), 2, 4))
    else:
        rectangles = _random(seed, Stream.PASTE, epoch, index[foreground], parts=2, blocks=_TRIES)
        paste = _paste(rectangles, size)
    return Parameters(
        source=_tensor(source, np.int32),
        box=_tensor(_crop(random[:, :, :_TRIES], height[source], width[source]), np.int32),
        orientation=_tensor(coins[..., 0] < FLIP, np.uint8),
        jitter=_tensor(coins[..., 1] < JITTER, np.bool_),
        factor=_tensor(factor, np.float32),
        order=_tensor(random[:, :, _ORDER].argsort(axis=-1), np.int32),
        grey=_tensor(coins[..., 2] < GREY, np.bool_),
        sigma=_tensor(sigma, np.float32),
        paste=_tensor(paste, np.int32),
    )


def _partners(seed: int, epoch: int, index: _Integers) -> tuple[_Integers, _Integers]:
    """Each sample's query and key background: the next two in a random cyclic order of the set."""
    random = words(seed, Stream.PARTNER, epoch, index).astype(np.uint64)
    order = np.argsort((random[:, 0] << np.uint64(32)) | random[:, 1], kind="stable")
    query, key = np.empty_like(order), np.empty_like(order)
    query[order], key[order] = np.roll(order, -1), np.roll(order, -2)
    return query, key


def _random(
    seed: int, stream: Stream, epoch: int, index: _Integers, parts: int, blocks: int
) -> _Floats:
    """Uniform numbers ``[B, parts, blocks, 4]`` for the views or rectangles of each sample."""
    block = np.arange(parts)[:, None] * _BLOCKS + np.arange(blocks)
    return uniform(seed, stream, epoch, index[:, None, None], block)


def _crop(random: _Floats, height: _Integers, width: _Integers) -> _Integers:
    """RandomResizedCrop's box ``[B, V, 4]`` in images of ``height`` and ``width`` ``[B, V]``."""
    w, h = _sides(random, (height * width)[..., None], CROP_AREA, CROP_RATIO)
    fits = (w > 0) & (w <= width[..., None]) & (h > 0) & (h <= height[..., None])
    h, w, to_top, to_left = _first(fits, h, w, random[..., 2], random[..., 3])
    none_fits = ~fits.any(axis=-1)
    # The largest central crop whose ratio is allowed.
    h = np.where(none_fits, np.minimum(height, np.rint(width / CROP_RATIO[0])), h)
    w = np.where(none_fits, np.minimum(width, np.rint(height * CROP_RATIO[1])), w)
    top = np.where(none_fits, (height - h) // 2, _place(to_top, height - h))
    left = np.where(none_fits, (width - w) // 2, _place(to_left, width - w))
    return np.stack([top, left, h, w], axis=-1).astype(np.int64)


def _paste(random: _Floats, size: int) -> _Integers:
    """RandomErasing's rectangle ``[B, 2, 4]`` in an image of side ``size``.

    Where ten tries fail torchvision erases nothing, and an image without foreground has no loss:
    the last try is clipped to the largest side instead.
    """
    h, w = _sides(random, np.array(size**2), PASTE_AREA, PASTE_RATIO)
    h, w, to_top, to_left = _first((h < size) & (w < size), h, w, random[..., 2], random[..., 3])
    h, w = np.clip(h, 1, size - 1), np.clip(w, 1, size - 1)
    return np.stack([_place(to_top, size - h), _place(to_left, size - w), h, w], axis=-1).astype(
        np.int64
    )


def _sides(
    random: _Floats, whole: _Integers, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[_Floats, _Floats]:
    """The sides of a random rectangle in whole pixels; ``ratio`` is of the first to the second."""
    pixels = whole * _between(random[..., 0], *area)
    # Uniform in the logarithm, so that a ratio is as likely as its inverse.
    sides_ratio = np.exp(_between(random[..., 1], np.log(ratio[0]), np.log(ratio[1])))
    return np.rint(np.sqrt(pixels * sides_ratio)), np.rint(np.sqrt(pixels / sides_ratio))


def _first(accepted: NDArray[np.bool_], *tries: _Floats) -> list[_Floats]:
    """Of each array's tries (last axis) the first accepted one, or the last where none is."""
    accepted = accepted.copy()
    accepted[..., -1] = True
    first = accepted.argmax(axis=-1)[..., None]
    return [np.take_along_axis(values, first, axis=-1)[..., 0] for values in tries]


def _place(random: _Floats, free: _Floats) -> _Floats:
    """A whole number from 0 to ``free`` inclusive."""
    return np.floor(random * (free + 1))


def _between(random: _Floats, low: float | _Floats, high: float | _Floats) -> _Floats:
    return low + random * (high - low)


def _tensor(values: NDArray[np.generic], dtype: type[np.generic]) -> torch.Tensor:
    return torch.from_numpy(values.astype(dtype))
