"""The evaluation of a network on labelled images, summed over all processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from cp2fast.config import FinetuneSettings
from cp2fast.finetune.boundary import sum_boundary_f
from cp2fast.finetune.confusion import Scores, count_confusion, scores
from cp2fast.finetune.inference import segment
from cp2fast.finetune.loader import examples_in_batches
from cp2fast.labels.dataset import LabelledData
from cp2fast.model.segmenter import Segmenter
from cp2fast.train.interrupt import StopAsked
from cp2fast.train.precision import autocast, dtype_of
from cp2fast.train.processes import Processes


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
    stopped = torch.zeros((), dtype=torch.int64, device=device)
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
        stopped += 1  # The other processes wait for this one, so stop together.
    network.train(was_training)
    if ranks.world_size > 1:
        dist.all_reduce(stopped)
    if stopped:
        raise StopAsked
    if ranks.world_size > 1:
        dist.all_reduce(confusion)
        dist.all_reduce(boundary)
    return confusion, scores(confusion, data.classes, boundary if tolerance > 0 else None)
