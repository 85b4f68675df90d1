"""The evaluation of a network on labelled images, summed over all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from cp2fast.config import FinetuneSettings
from cp2fast.finetune.boundary import sum_boundary_f
from cp2fast.finetune.confusion import count_confusion
from cp2fast.finetune.inference import segment
from cp2fast.finetune.loader import examples_in_batches
from cp2fast.labels.dataset import Example, LabelledData
from cp2fast.model.segmenter import Segmenter
from cp2fast.train.distributed import Ranks
from cp2fast.train.interrupt import StopAsked
from cp2fast.train.precision import autocast, dtype_of


class Judged(NamedTuple):
    """The counts of an evaluation.

    Attributes:
        confusion: int64 ``[K, K]``, true class by predicted class.
        boundary: float64 ``[K, 2]``: sums of ``sum_boundary_f``.
    """

    confusion: Tensor
    boundary: Tensor


@torch.no_grad()
def evaluate(
    network: Segmenter,
    data: LabelledData,
    settings: FinetuneSettings,
    device: torch.device,
    ranks: Ranks,
    alive: Callable[[], None] = lambda: None,
) -> Judged:
    """Evaluate a network on ``data.val``, each image at its own size.

    Args:
        network: network on ``device``; its mode is restored afterwards.
        data: the data set.
        settings: settings of the evaluation, the batch size and the precision.
        device: device of this process.
        ranks: every process evaluates its share and gets the sum.
        alive: called after each batch; may raise ``StopAsked``.

    Raises:
        UserError: an image or a mask cannot be used.
        StopAsked: on all processes, if ``alive`` raised it on any.
    """
    classes = len(data.classes)
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    boundary = torch.zeros(classes, 2, dtype=torch.float64, device=device)
    tolerance = settings.evaluation.boundary
    precision = dtype_of(settings.train.precision, device)
    was_training = network.training
    network.eval()
    share: Sequence[Example] = data.val[ranks.rank :: ranks.world_size]
    stopped = torch.zeros((), dtype=torch.int64, device=device)
    try:
        for images, labels in examples_in_batches(share, data, settings.data.batch_size):
            with autocast(precision, device):
                predicted = segment(network, torch.stack(images).to(device), settings)
            alive()
            labels_BHW = torch.stack(labels).to(device)
            confusion += count_confusion(predicted, labels_BHW, classes)
            if tolerance > 0:
                for one, expected in zip(predicted, labels_BHW, strict=True):
                    boundary += sum_boundary_f(one, expected, classes, tolerance)
    except StopAsked:
        stopped += 1  # The other processes wait for this one, so stop together.
    network.train(was_training)
    if ranks.world_size > 1:
        dist.all_reduce(stopped)
    if stopped:
        raise StopAsked
    if ranks.world_size > 1:
        dist.all_reduce(confusion)
        dist.all_reduce(boundary)
    return Judged(confusion, boundary)
