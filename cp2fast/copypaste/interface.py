"""The common interface of all backends of the op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

Composed: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Query and key ``[B, 3, S, S]``, channels-last, and their masks, bool ``[B, S, S]``."""


class Implementation(Protocol):
    """A backend; it checks nothing, because ``validate`` already did."""

    def __call__(
        self,
        pixels: Tensor,
        views: Tensor,
        size: int,
        dtype: torch.dtype,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> Composed:
        """Compose every sample's query and key.

        Args:
            pixels: uint8 ``[N]``, contiguous, on the backend's device.
            views: int32 ``[B, V, 16]``, the table of ``views.py``, contiguous, valid, and on the
                same device as the pixels.
            size: side S of the output.
            dtype: dtype of the composed images: float32, bfloat16 or float16.
            mean: mean of each channel in [0, 1], subtracted from the output.
            std: standard deviation of each channel, by which the output is divided.
        """


def empty_outputs(samples: int, size: int, dtype: torch.dtype, device: torch.device) -> Composed:
    """Uninitialised outputs."""
    query, key = (
        torch.empty(
            (samples, 3, size, size),
            dtype=dtype,
            device=device,
            memory_format=torch.channels_last,
        )
        for _ in range(2)
    )
    query_mask, key_mask = (
        torch.empty((samples, size, size), dtype=torch.bool, device=device) for _ in range(2)
    )
    return query, key, query_mask, key_mask
