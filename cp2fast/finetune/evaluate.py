"""The evaluation of a network on labelled images: one confusion matrix over all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from cp2fast.config import FinetuneSettings
from cp2fast.finetune.confusion import count_confusion
from cp2fast.finetune.inference import segment
from cp2fast.finetune.loader import examples_in_batches
from cp2fast.labels.dataset import Example, LabelledData
from cp2fast.model.segmenter import Segmenter
from cp2fast.train.distributed import Ranks
from cp2fast.train.precision import autocast, dtype_of


@torch.no_grad()
def evaluate(
    network: Segmenter,
    data: LabelledData,
    settings: FinetuneSettings,
    device: torch.device,
    ranks: Ranks,
    alive: Callable[[], None] = lambda: None,
) -> Tensor:
    """The confusion matrix over ``data.val``, each image at its own size.

    Args:
        network: on ``device``; left in the mode that it was in.
        data: the data set.
        settings: of the evaluation, the batch size and the precision.
        device: of this process.
        ranks: every process evaluates its share and gets the sum.
        alive: called after each batch.

    Returns:
        int64 ``[K, K]``, true class by predicted class, on ``device``.

    Raises:
        UserError: an image or a mask that cannot be used.
    """
    classes = len(data.classes)
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    precision = dtype_of(settings.train.precision, device)
    was_training = network.training
    network.eval()
    share: Sequence[Example] = data.val[ranks.rank :: ranks.world]
    for images, labels in examples_in_batches(share, data, settings.data.batch_size):
        with autocast(precision, device):
            predicted = segment(network, torch.stack(images).to(device), settings)
        alive()
        confusion += count_confusion(predicted, torch.stack(labels).to(device), classes)
    network.train(was_training)
    if ranks.world > 1:
        dist.all_reduce(confusion)
    return confusion
