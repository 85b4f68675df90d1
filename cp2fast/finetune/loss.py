"""The segmentation loss: cross-entropy per pixel, and optionally overlap (Dice) per class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cp2fast.labels.masks import IGNORED


def segmentation_loss(
    logits_BKHW: Tensor,
    labels_BHW: Tensor,
    mean: Literal["valid", "all"],
    class_weight_K: Tensor | None = None,
    dice_weight: float = 0.0,
) -> Tensor:
    """Cross-entropy of the logits; does not wait for the device.

    Args:
        logits_BKHW: logits of K classes at each pixel, in single precision at least.
        labels_BHW: labels below K, or 255 where ignored.
        mean: average over the pixels that are not ignored, or over all pixels as in
            mmsegmentation and the paper's code, where images with many ignored pixels count less.
        class_weight_K: weight of each class's pixels; the mean over valid pixels is weighted too.
        dice_weight: weight of ``dice_loss``, which is added.

    Returns:
        A scalar; 0 where every pixel is ignored.
    """
    labels = labels_BHW.long()
    valid_BHW = labels != IGNORED
    total = cross_entropy(
        logits_BKHW, labels, class_weight_K, ignore_index=IGNORED, reduction="sum"
    )
    if mean == "all":
        loss = total / labels.numel()
    elif class_weight_K is None:
        loss = total / valid_BHW.sum().clamp(min=1)
    else:
        weight_BHW = class_weight_K[labels.masked_fill(~valid_BHW, 0)] * valid_BHW
        loss = total / weight_BHW.sum().clamp(min=1e-12)
    return loss + dice_weight * dice_loss(logits_BKHW, labels) if dice_weight else loss


def dice_loss(logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
    """One minus the soft Dice coefficient, averaged over the classes in the labels.

    Dice is twice the intersection divided by the sum of predicted and true amounts, over all pixels
    of the batch except ignored ones (Milletari et al., "V-Net", 3DV 2016, without the squares).
    Labels are int64, below K or 255.

    Returns:
        A scalar from 0 to 1; 0 where every pixel is ignored.
    """
    classes_K11 = torch.arange(logits_BKHW.shape[1], device=labels_BHW.device)[:, None, None]
    true_BKHW = labels_BHW[:, None] == classes_K11
    probability_BKHW = logits_BKHW.softmax(dim=1) * (labels_BHW != IGNORED)[:, None]
    shared_K = (probability_BKHW * true_BKHW).sum(dim=(0, 2, 3))
    pixels_K = true_BKHW.sum(dim=(0, 2, 3))
    dice_K = 2 * shared_K / (probability_BKHW.sum(dim=(0, 2, 3)) + pixels_K).clamp(min=1e-6)
    there_K = pixels_K > 0
    return ((1 - dice_K) * there_K).sum() / there_K.sum().clamp(min=1)


def balanced_weights(pixels_K: Sequence[int]) -> list[float]:
    """Class weights that favour rare classes: 1 / ln(1.02 + share), from 1.4 to 50.

    They are scaled to a mean of 1 over all labelled pixels, so the learning rate need not change. A
    class without pixels gets 1 (Paszke et al., "ENet", 2016).
    """
    total = sum(pixels_K)
    if not total:
        return [1.0] * len(pixels_K)
    shares = [count / total for count in pixels_K]
    raw = [1 / math.log(1.02 + share) for share in shares]
    mean = sum(weight * share for weight, share in zip(raw, shares, strict=True))
    return [weight / mean if share else 1.0 for weight, share in zip(raw, shares, strict=True)]
