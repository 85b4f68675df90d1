"""Batches that are prepared ahead of the training, on a GPU in parallel with it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields, is_dataclass
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from cp2fast.data.prefetch import prefetch

Batch = TypeVar("Batch")

Made: TypeAlias = Generator[tuple[Batch, list[int]], None, None]
"""Batches, dataclasses or tuples of tensors, each with the numbers of its images."""

_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Loaded(Generic[Batch]):
    """A batch that a separate CUDA stream may still be producing.

    Attributes:
        batch: dataclass or tuple of tensors for the network; use ``ready`` to get it.
        images: numbers of the batch's images.
        made: event recorded when the GPU has produced it; None if there is nothing to wait for.
    """

    batch: Batch
    images: list[int]
    made: torch.cuda.Event | None = None

    def ready(self) -> Batch:
        """The batch; the current CUDA stream waits for it, but this process does not."""
        if self.made is None:
            return self.batch
        stream = torch.cuda.current_stream()
        stream.wait_event(self.made)
        for tensor in _tensors(self.batch):
            if tensor.is_cuda:
                tensor.record_stream(stream)
        return self.batch


def load_ahead(batches: Made[Batch], device: torch.device) -> Generator[Loaded[Batch], None, None]:
    """Make the batches in a thread, two ahead; on a GPU on a separate stream.

    Closing the result closes ``batches`` and ends the thread.
    """
    return prefetch(_on_own_stream(batches, device), _BATCHES_AHEAD)


def _on_own_stream(
    batches: Made[Batch], device: torch.device
) -> Generator[Loaded[Batch], None, None]:
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    if stream is not None:  # for this thread, which would otherwise use the first GPU
        torch.cuda.set_device(stream.device)
    try:
        while True:
            with torch.cuda.stream(stream):  # no effect if None
                made = next(batches, None)
            if made is None:
                return
            yield Loaded(*made, stream.record_event() if stream else None)
    finally:
        batches.close()


def _tensors(batch: object) -> list[Tensor]:
    if is_dataclass(batch):
        return [getattr(batch, field.name) for field in fields(batch)]
    return list(batch)  # type: ignore[call-overload, no-any-return]
