"""A moving average of a network's weights, evaluated and saved instead of the network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cp2fast.model.segmenter import Segmenter


class Average:
    """The exponential moving average of the weights of a network in training.

    Batch norm statistics are copied from the network, as they are averages already.

    Attributes:
        decay: share of the average kept at each step, after the first steps; None averages nothing.
        network: network with the averaged weights, in eval mode; without decay ``learning`` itself.
    """

    def __init__(self, learning: Segmenter, decay: float | None) -> None:
        self.learning, self.decay, self.steps = learning, decay, 0
        self.network = learning
        if decay is not None:
            self.network = copy.deepcopy(learning).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self) -> None:
        """Add one step of the network in training to the average."""
        if self.decay is None:
            return
        # A smaller decay at first: otherwise the initial weights would dominate for a long time.
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(list(self.network.parameters()), list(self.learning.parameters()), None)
        self.take_buffers()
        self.steps += 1

    @torch.no_grad()
    def take_buffers(self) -> None:
        """Copy the batch norm statistics of the network in training, unless nothing is averaged."""
        if self.decay is None:
            return
        for own, other in zip(self.network.buffers(), self.learning.buffers(), strict=True):
            own.copy_(other)

    def restart(self) -> None:
        """Restart the average from the weights of the network in training."""
        self.network.load_state_dict(self.learning.state_dict())
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """The average as a checkpoint's ``model``, and the weights in training as ``learning``."""
        if self.decay is None:
            return {"model": self.learning.state_dict()}
        return {
            "model": self.network.state_dict(),
            "learning": self.learning.state_dict(),
            "averaged_steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of ``state_dict``."""
        self.network.load_state_dict(state["model"])
        if self.decay is not None:
            self.learning.load_state_dict(state["learning"])
            self.steps = state["averaged_steps"]
