"""Find the step at which training broke, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

MOST_UNCHECKED = 256
"""Check the losses after this many steps; each step's image numbers are kept until then."""
_MOST_NAMED = 16


class BadStep(NamedTuple):
    """A step whose loss is not finite.

    Attributes:
        step: counted from 1.
        rank: rank of the process that computed the loss.
        images: numbers of that process's images in the step.
    """

    step: int
    rank: int
    images: list[int]

    def __str__(self) -> str:
        """Description for messages to the user."""
        named = ", ".join(map(str, self.images[:_MOST_NAMED]))
        more = len(self.images) - _MOST_NAMED
        return f"step {self.step}, images {named}" + (f" and {more} more" if more > 0 else "")


class LossRecord:
    """The losses since the last check, kept on the device, with the numbers of their images."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._losses: list[Tensor] = []
        self._steps: list[tuple[int, list[int]]] = []

    def note(self, step: int, loss: Tensor, images: list[int]) -> None:
        """Record a step; does not wait for the device."""
        self._losses.append(loss)
        self._steps.append((step, images))

    @property
    def is_full(self) -> bool:
        """Whether it is time for a check."""
        return len(self._losses) >= MOST_UNCHECKED

    def check(self) -> BadStep | None:
        """The first step since the last check whose loss is not finite; waits for the device."""
        if not self._losses:
            return None
        finite = torch.stack(self._losses).isfinite().tolist()
        steps = self._steps
        self._losses, self._steps = [], []
        for (step, images), is_finite in zip(steps, finite, strict=True):
            if not is_finite:
                return BadStep(step, self._rank, images)
        return None


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor contains infinity or NaN; waits for the device once."""
    norms = torch._foreach_norm(list(tensors))  # NaN and infinity survive a norm
    return bool(torch.stack(norms).isfinite().all())
