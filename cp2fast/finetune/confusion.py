"""The confusion matrix of classes, and the scores computed from it (Everingham et al., 2010)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cp2fast.labels.coding import IGNORED


def count_confusion(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count pixels by true class (row) and predicted class (column), without ignored ones.

    Args:
        predicted: predicted labels, integers below K, of any shape.
        labels: true labels, integers of the same shape, below K or 255.
        num_classes: K.

    Returns:
        int64 ``[K, K]`` on the tensors' device: exact for any number of pixels.
    """
    counted = labels != IGNORED
    pairs = labels[counted].long() * num_classes + predicted[counted].long()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


@dataclass(frozen=True)
class Scores:
    """The scores of an evaluation.

    Attributes:
        miou: mean IoU of the classes, without classes that are neither labelled nor predicted.
        pixel_accuracy: share of the labelled pixels with the right class.
        per_class: IoU by class name; None for a class that is neither labelled nor predicted.
        dice: mean Dice coefficient (F1) of the same classes.
        per_class_dice: Dice by class name, likewise.
        boundary_f: mean boundary F of the classes that have one; None if none has or it was not
            computed.
        per_class_boundary_f: boundary F by class name; None for a class without any outline.
    """

    miou: float
    pixel_accuracy: float
    per_class: dict[str, float | None]
    dice: float
    per_class_dice: dict[str, float | None]
    boundary_f: float | None = None
    per_class_boundary_f: dict[str, float | None] | None = None


def scores(
    confusion_KK: Tensor, classes: Sequence[str], boundary_K2: Tensor | None = None
) -> Scores:
    """The scores of a confusion matrix, in double precision; 0 if nothing is labelled.

    Args:
        confusion_KK: sum of the results of ``count_confusion``.
        classes: names of the K classes.
        boundary_K2: sum of the results of ``sum_boundary_f``, if computed.
    """
    confusion = confusion_KK.double().cpu()
    right = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - right
    per_class = _by_name(classes, right / union)
    per_class_dice = _by_name(classes, 2 * right / (union + right))
    outlines = None
    if boundary_K2 is not None:
        f, images = boundary_K2.cpu().unbind(dim=1)
        outlines = _by_name(classes, f / images)
    return Scores(
        miou=_mean(per_class) or 0.0,
        pixel_accuracy=float(right.sum() / confusion.sum().clamp(min=1)),
        per_class=per_class,
        dice=_mean(per_class_dice) or 0.0,
        per_class_dice=per_class_dice,
        boundary_f=None if outlines is None else _mean(outlines),
        per_class_boundary_f=outlines,
    )


def _by_name(classes: Sequence[str], ratios_K: Tensor) -> dict[str, float | None]:
    """Ratios by class name; None for a class that never occurs, whose ratio is NaN."""
    values = zip(classes, ratios_K.tolist(), ratios_K.isnan().tolist(), strict=True)
    return {name: None if nowhere else value for name, value, nowhere in values}


def _mean(per_class: Mapping[str, float | None]) -> float | None:
    present = [value for value in per_class.values() if value is not None]
    return sum(present) / len(present) if present else None
