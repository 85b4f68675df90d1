"""The random parameters of a batch: a pure function of (seed, epoch, image number).

The default distributions are those of the original pipeline (CP2, section 3.2, and its published
code): torchvision's RandomResizedCrop, ColorJitter, RandomGrayscale and RandomHorizontalFlip, a
Gaussian blur, and RandomErasing's rectangle as the foreground. Tests compare them with
torchvision's own draws.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.config import AugmentSettings
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.sampling_kernel import (
    Ranges,
    partner_words,
    sample_pastes,
    sample_views,
)

Background = Literal["batch", "independent", "none"]

_PAPER = AugmentSettings()
_WORD = 0xFFFFFFFF


def sample_parameters(
    seed: int,
    epoch: int,
    batch: RaggedBatch,
    size: int,
    background: Background = "batch",
    augment: AugmentSettings = _PAPER,
) -> Parameters:
    """Draw the parameters of each sample of a batch, without the GIL.

    A sample's parameters depend only on (seed, epoch, its image's number), not on the batch, its
    order, the worker or the rank. The exception is the choice of background images, which depends
    on the set of images in the batch, but not on their order.

    Args:
        seed: any integer.
        epoch: epoch, from 0.
        batch: the images; only ``height``, ``width`` and ``index`` are read. With independent
            backgrounds it holds the B foregrounds, then B backgrounds for the query, then B for the
            key, and the number of the foreground is used.
        size: side S of the output in pixels.
        background: source of the backgrounds. ``batch`` takes them from the other samples: no image
            is its own background, and query and key have different ones, unless more than a third
            of the batch have the same number. ``none`` disables copy-paste: the foreground fills
            the output, and its own image serves as the background, which is invisible.
        augment: ranges and probabilities; by default those of the paper.

    Returns:
        The parameters of the B samples, on the CPU.

    Raises:
        ValueError: fewer than three images for backgrounds of the same batch, a number of images
            that is not a multiple of three for independent ones, or a size below 2.
    """
    if size < 2:
        raise ValueError(f"size must be at least 2 to hold a foreground and a background: {size}")
    key = seed & _WORD, seed >> 32 & _WORD
    index = batch.index.numpy()
    source = _sources(key, epoch, index, background)
    views = source.shape
    box, order = np.empty((*views, 4), np.int32), np.empty((*views, 4), np.int32)
    factor, sigma = np.empty((*views, 4), np.float32), np.empty(views, np.float32)
    jitter, grey = np.empty(views, np.bool_), np.empty(views, np.bool_)
    orientation, paste = np.empty(views, np.uint8), np.empty((views[0], 2, 4), np.int32)
    ranges = _ranges(augment)
    sample_views(
        *(key, epoch, index, batch.height.numpy(), batch.width.numpy(), source, ranges),
        *(box, orientation, jitter, factor, order, grey, sigma),
    )
    if background == "none":
        paste[:] = 0, 0, size, size
    else:
        sample_pastes(key, epoch, index, size, ranges, paste)
    fields = source, box, orientation, jitter, factor, order, grey, sigma, paste
    return Parameters(*map(torch.from_numpy, fields))


def _sources(
    key: tuple[int, int], epoch: int, index: NDArray[np.int64], background: Background
) -> NDArray[np.int32]:
    """The position of each view's image in the batch: int32 ``[B, 4]``."""
    images = len(index)
    if background == "batch" and images < 3:
        raise ValueError(
            f"batch holds {images} images; backgrounds of the same batch need at least 3"
        )
    if background == "independent" and images % 3:
        raise ValueError(
            f"batch holds {images} images; independent backgrounds need a multiple of 3"
        )
    samples = images // 3 if background == "independent" else images
    foreground = np.arange(samples, dtype=np.int32)
    source = np.repeat(foreground[:, None], 4, axis=1)
    if background == "batch":
        # The next two images in a random cyclic order. Sorted by numpy, as numba would compile its
        # own sort for two seconds. Dealt into as many rounds as there are of the most frequent
        # number, whose images come first: equal numbers are a round apart, or more.
        random = np.empty(images, np.uint64)
        partner_words(key, epoch, index, random)
        _, number, counts = np.unique(random, return_inverse=True, return_counts=True)
        order = np.lexsort((random, -counts[number])).astype(np.int32)
        order = order[np.argsort(np.arange(images) % counts.max(), kind="stable")]
        source[order, 2], source[order, 3] = np.roll(order, -1), np.roll(order, -2)
    elif background == "independent":
        source[:, 2] += samples
        source[:, 3] += 2 * samples
    return source


@functools.cache
def _ranges(augment: AugmentSettings) -> Ranges:
    """The settings in the form that the kernel takes."""
    colours = [
        _around(value, 1) for value in (augment.brightness, augment.contrast, augment.saturation)
    ]
    low, high = zip(*colours, _around(augment.hue, 0), strict=True)
    return Ranges(
        crop_area=_pair(*augment.crop_area),
        crop_ratio=_pair(*augment.crop_ratio),
        log_crop_ratio=_pair(*map(math.log, augment.crop_ratio)),
        paste_area=_pair(*augment.paste_area),
        log_paste_ratio=_pair(*map(math.log, augment.paste_ratio)),
        factor_low=low,
        factor_high=high,
        sigma=_pair(*augment.sigma),
        jitter=float(augment.jitter),
        grey=float(augment.grey),
        blur=float(augment.blur),
        flip=float(augment.flip),
        vertical_flip=float(augment.vertical_flip),
        turn=float(augment.turn),
    )


def _pair(low: float, high: float) -> tuple[float, float]:
    return float(low), float(high)


def _around(strength: float | tuple[float, float], centre: int) -> tuple[float, float]:
    """ColorJitter's range: a pair as it is, or a strength as an interval around the centre."""
    if isinstance(strength, tuple):
        return _pair(*strength)
    low = centre - strength
    return _pair(max(low, 0) if centre else low, centre + strength)
