"""The optimisers, with torch's fused kernels: one for all parameters, not several for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from cp2fast.config import CommonTrainSettings

_OF_THE_SETTINGS = {"momentum", "weight_decay"}


def build_optimizer(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    train: CommonTrainSettings,
) -> Optimizer:
    """The optimiser selected by the settings, for ``parameters`` or groups of them."""
    # With GradScaler, fused SGD leaves its momentum uninitialised if the very first step overflows.
    fused_sgd = train.precision != "fp16"
    if train.optimizer == "adamw":
        return AdamW(parameters, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    return SGD(
        parameters,
        lr=train.lr,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
        fused=fused_sgd,
    )


def restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the state from a checkpoint, but keep current settings such as the weight decay."""
    settings = [
        {key: value for key, value in group.items() if key in _OF_THE_SETTINGS}
        for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
