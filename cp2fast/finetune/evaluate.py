"""The evaluation of a network on labelled images: confusion matrix and scores.

Scores are those of Everingham et al., "The PASCAL visual object classes challenge", 2010.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from cp2fast.config import FinetuneSettings
from cp2fast.finetune.boundary import sum_boundary_f
from cp2fast.finetune.inference import segment
from cp2fast.finetune.loader import examples_in_batches
from cp2fast.labels.dataset import LabelledData
from cp2fast.labels.masks import IGNORED
from cp2fast.model.segmenter import Segmenter
from cp2fast.train.interrupt import StopAsked
from cp2fast.train.precision import autocast, dtype_of
from cp2fast.train.processes import Processes


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


@torch.no_grad()
def evaluate(
    network: Segmenter,
    data: LabelledData,
    settings: FinetuneSettings,
    processes: Processes,
    alive: Callable[[], None],
) -> tuple[Tensor, Scores]:
    """Evaluate a network on ``data.val``, each image at its own size.

    Args:
        network: network on this process's device; its mode is restored afterwards.
        data: the data set.
        settings: of the evaluation, the batch size and the precision.
        processes: every process evaluates its share and gets the result of all.
        alive: called after each batch; may raise ``StopAsked``.

    Returns:
        The confusion matrix, int64 ``[K, K]``, and the scores computed from it.

    Raises:
        UserError: an image or a mask cannot be used.
        StopAsked: on all processes, if ``alive`` raised it on any.
    """
    device, ranks, num_classes = processes.device, processes.ranks, len(data.classes)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    boundary = torch.zeros(num_classes, 2, dtype=torch.float64, device=device)
    tolerance = settings.evaluation.boundary
    precision = dtype_of(settings.train.precision, device)
    was_training = network.training
    network.eval()
    share = data.val[ranks.rank :: ranks.world_size]
    stopped = False
    try:
        for images, labels in examples_in_batches(share, data, settings.data.batch_size):
            with autocast(precision, device):
                predicted = segment(network, torch.stack(images).to(device), settings)
            alive()
            labels_BHW = torch.stack(labels).to(device)
            confusion += count_confusion(predicted, labels_BHW, num_classes)
            if tolerance > 0:
                for one, expected in zip(predicted, labels_BHW, strict=True):
                    boundary += sum_boundary_f(one, expected, num_classes, tolerance)
    except StopAsked:
        stopped = True
    network.train(was_training)
    # Here the processes wait for the slowest, and stop together.
    if any(processes.agreement.any(stopped)):
        raise StopAsked
    if ranks.world_size > 1:
        dist.all_reduce(confusion)
        dist.all_reduce(boundary)
    return confusion, scores(confusion, data.classes, boundary if tolerance > 0 else None)


def count_confusion(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count pixels by true class (row) and predicted class (column), without ignored ones.

    Both are integers of one shape, predictions below K and labels below K or 255.

    Returns:
        int64 ``[K, K]`` on the tensors' device: exact for any number of pixels.
    """
    counted = labels != IGNORED
    pairs = labels[counted].long() * num_classes + predicted[counted].long()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def scores(
    confusion_KK: Tensor, classes: Sequence[str], boundary_K2: Tensor | None = None
) -> Scores:
    """The scores of a confusion matrix, in double precision; 0 if nothing is labelled.

    ``boundary_K2`` is the sum of the results of ``sum_boundary_f``, if computed.
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
