"""A moving average of a network's weights, which is evaluated and saved in the network's place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cp2fast.model.segmenter import Segmenter


class Average:
    """The exponential moving average of the weights of a network that learns.

    Statistics of batch norm are the network's newest: they are averages already.

    Attributes:
        network: with the averaged weights, in eval mode.
        decay: share of the average that each step keeps, once it has run for a while.
        steps: that were averaged.
    """

    def __init__(self, network: Segmenter, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one more step of ``network`` in."""
        # Early on a short memory, or the average would be of the initial weights for long.
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(list(self.network.parameters()), list(network.parameters()), None)
        self.take_buffers(network)
        self.steps += 1

    @torch.no_grad()
    def take_buffers(self, network: nn.Module) -> None:
        """The statistics of ``network``."""
        for own, other in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(other)

    def restart(self, network: nn.Module) -> None:
        """From the weights of ``network``."""
        self.network.load_state_dict(network.state_dict())
        self.steps = 0

    def state_dict(self, network: nn.Module) -> dict[str, Any]:
        """The average as the model of a checkpoint, beside the weights that learn on."""
        return {
            "model": self.network.state_dict(),
            "learning": network.state_dict(),
            "averaged_steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any], network: nn.Module) -> None:
        """See ``state_dict``."""
        self.network.load_state_dict(state["model"])
        network.load_state_dict(state["learning"])
        self.steps = state["averaged_steps"]
