"""The learner of pretraining: both encoders, and the losses of a batch of pairs."""

from __future__ import annotations

import torch
from torch import nn

from cp2fast.batch import CopyPasteBatch
from cp2fast.config import PretrainSettings
from cp2fast.model.cp2 import CP2, CP2Output, build_cp2
from cp2fast.train.learner import Learner


def build_learner(settings: PretrainSettings, device: torch.device) -> Learner[CP2, CopyPasteBatch]:
    """A learner with random weights, for this process alone.

    Raises:
        UserError: unsupported backbone, size or precision.
    """
    network = build_cp2(settings.model, settings.train.seed)
    return Learner(network, network.encoder_q.parameters(), contrast, settings.train, device)


def contrast(network: nn.Module, batch: CopyPasteBatch, step: int, number: int) -> CP2Output:
    """Contrast and enqueue one batch; returns its losses and metrics."""
    output: CP2Output = network(
        batch.query,
        batch.key,
        batch.query_mask,
        batch.key_mask,
        move_key_encoder=number == 0,
    )
    return output
