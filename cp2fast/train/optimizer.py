"""The optimisers, with torch's fused kernels: one for all parameters instead of several each."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from cp2fast.config import FinetuneTrainSettings, TrainSettings


def build_optimizer(
    parameters: Iterable[nn.Parameter], train: TrainSettings | FinetuneTrainSettings
) -> Optimizer:
    """The optimiser that the settings name, over ``parameters``."""
    if train.optimizer == "adamw":
        return AdamW(parameters, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    return SGD(
        parameters,
        lr=train.lr,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
        fused=True,
    )
