"""Large buffers, reused once nothing refers to them any more."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Memory = NDArray[np.uint8]

_HEADROOM = 1.1
"""Batches differ in size; some spare room lets a buffer serve the next ones too."""


def pinned(size: int) -> Memory:
    """Pinned memory, from which a GPU copies without blocking the host."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()


def _plain(size: int) -> Memory:
    return torch.empty(size, dtype=torch.uint8).numpy()


class Buffers:
    """A pool of memory for batches of about the same size.

    The system clears fresh memory page by page, which took a quarter of the decoding time for
    batches of 80 MB. A buffer returns to the pool when the last tensor that uses it, view or not,
    is gone. Any thread may take buffers and drop tensors.
    """

    def __init__(self, keep: int, allocate: Callable[[int], Memory] = _plain) -> None:
        """Keep at most ``keep`` free buffers; ``allocate`` makes new ones of a given size."""
        self._keep = keep
        self._allocate = allocate
        # By address. No lock: a buffer can return at any moment, even during ``take``. Each step is
        # a single dictionary operation, which is atomic.
        self._free: dict[int, Memory] = {}

    def take(self, size: int) -> Tensor:
        """An uninitialised uint8 tensor ``[size]`` on the CPU, aligned like torch's own."""
        memory = self._take_free(size)
        if memory is None:
            for oldest in list(self._free)[:1]:  # makes room for this larger one
                self._free.pop(oldest, None)
            memory = self._allocate(int(size * _HEADROOM))
        part = memory[:size]
        # The tensor's storage holds the only reference to this view of the memory.
        weakref.finalize(part, self._give_back, memory).atexit = False
        return torch.from_numpy(part)

    @property
    def kept(self) -> int:
        """Number of buffers ready to be reused."""
        return len(self._free)

    def _take_free(self, size: int) -> Memory | None:
        for address, memory in list(self._free.items()):
            # Another thread may have taken it first.
            if len(memory) >= size and self._free.pop(address, None) is not None:
                return memory
        return None

    def _give_back(self, memory: Memory) -> None:
        if len(self._free) < self._keep:
            self._free[memory.ctypes.data] = memory
