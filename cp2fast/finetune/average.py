"""A moving average of a network's weights, evaluated and saved instead of the network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cp2fast.model.segmenter import Segmenter


class Average:
    """The exponential moving average of the weights of a network in training.

    Batch norm statistics are copied from the network, as they are averages already.

    Attributes:
        network: network with the averaged weights, in eval mode.
        decay: share of the average kept at each step, after the first steps.
        steps: number of steps averaged.
    """

    def __init__(self, network: Segmenter, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add one step of ``network`` to the average."""
        # A smaller decay at first: otherwise the initial weights would dominate for a long time.
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(list(self.network.parameters()), list(network.parameters()), None)
        self.take_buffers(network)
        self.steps += 1

    @torch.no_grad()
    def take_buffers(self, network: nn.Module) -> None:
        """Copy the batch norm statistics of ``network``."""
        for own, other in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(other)

    def restart(self, network: nn.Module) -> None:
        """Restart the average from the weights of ``network``."""
        self.network.load_state_dict(network.state_dict())
        self.steps = 0

    def state_dict(self, network: nn.Module) -> dict[str, Any]:
        """The average as a checkpoint's ``model``, and the weights in training as ``learning``."""
        return {
            "model": self.network.state_dict(),
            "learning": network.state_dict(),
            "averaged_steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any], network: nn.Module) -> None:
        """Load the result of ``state_dict``."""
        self.network.load_state_dict(state["model"])
        network.load_state_dict(state["learning"])
        self.steps = state["averaged_steps"]
