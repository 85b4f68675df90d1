"""A network's segmentation of whole images, at their own size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, FinetuneSettings
from cp2fast.copypaste.reference import normalise
from cp2fast.finetune.augment import resize, resize_scale
from cp2fast.model.segmenter import Segmenter


def segment(network: Segmenter, images_BHW3: Tensor, settings: FinetuneSettings) -> Tensor:
    """The most probable label of each pixel.

    The image is resized (short side ``evaluation.short_side``), the logits are upsampled to the
    resized image, then to the image's own size, as in mmsegmentation; with several scales or a
    flip the probabilities are averaged.

    Args:
        network: in evaluation mode.
        images_BHW3: uint8 RGB of any size, on the network's device.
        settings: ``evaluation``, ``data.short_side`` and the sizes and colours of ``model`` count.

    Returns:
        int64 ``[B, H, W]``.
    """
    images = images_BHW3.permute(0, 3, 1, 2).float() / 255
    views = (
        _probabilities(network, images, settings, scale, mirrored)
        for scale in settings.evaluation.scales
        for mirrored in ((False,) if settings.evaluation.flip == "none" else (False, True))
    )
    return reduce(torch.add, views).argmax(dim=1)


def _probabilities(
    network: Segmenter, images_B3HW: Tensor, settings: FinetuneSettings, scale: float, flip: bool
) -> Tensor:
    """``[B, K, H, W]``."""
    height, width = images_B3HW.shape[2:]
    short_side = settings.evaluation.short_side or settings.data.short_side
    factor = resize_scale(height, width, max(1, round(scale * short_side)))
    resized = resize(images_B3HW, [max(1, round(side * factor)) for side in (height, width)])
    mean, std = settings.model.mean or IMAGENET_MEAN, settings.model.std or IMAGENET_STD
    inputs = normalise(resized.flip(-1) if flip else resized, mean, std)
    if settings.evaluation.mode == "whole":
        logits = _upsampled_logits(network, inputs)
    else:
        logits = _sliding(network, inputs, settings.model.size, settings.evaluation.stride)
    probabilities = interpolate(logits, (height, width), mode="bilinear").softmax(dim=1)
    return probabilities.flip(-1) if flip else probabilities


def _upsampled_logits(network: Segmenter, inputs_B3HW: Tensor) -> Tensor:
    return interpolate(network(inputs_B3HW).float(), inputs_B3HW.shape[2:], mode="bilinear")


def _sliding(network: Segmenter, inputs_B3HW: Tensor, window: int, stride: float) -> Tensor:
    """Mean of the logits of overlapping windows; the last ones end at the image's edge."""
    height, width = inputs_B3HW.shape[2:]
    total, count = None, inputs_B3HW.new_zeros(height, width)
    for top in _starts(height, window, stride):
        for left in _starts(width, window, stride):
            place = (..., slice(top, top + window), slice(left, left + window))
            logits = _upsampled_logits(network, inputs_B3HW[place])
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[place] += logits
            count[place] += 1
    if total is None:
        raise ValueError("inputs_B3HW is empty")
    return total / count


def _starts(length: int, window: int, stride: float) -> Iterator[int]:
    """Where the windows begin along one side."""
    last = max(0, length - window)
    step = max(1, int(window * stride))
    return (min(number * step, last) for number in range(math.ceil(last / step) + 1))
