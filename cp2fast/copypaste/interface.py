"""What every backend of the op takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor


class Request(NamedTuple):
    """The pairs to compose: the arguments of the op, which ``validate`` has checked.

    Attributes:
        pixels: uint8 ``[N]``, contiguous, on the backend's device.
        views: int32 ``[B, V, 16]``, the table of ``views.py``, contiguous, on the same device.
        size: side S of the output in pixels.
        dtype: dtype of the composed images: float32, bfloat16 or float16.
        mean: mean of each channel in [0, 1], subtracted from the output.
        std: standard deviation of each channel, by which the output is divided.
    """

    pixels: Tensor
    views: Tensor
    size: int
    dtype: torch.dtype
    mean: Sequence[float]
    std: Sequence[float]


Composed: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Query and key ``[B, 3, S, S]``, channels-last, and their masks, bool ``[B, S, S]``."""

Implementation: TypeAlias = Callable[[Request], Composed]
"""A backend."""


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
