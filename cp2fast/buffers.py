"""Large buffers that are used again once nobody holds them any more."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Memory = NDArray[np.uint8]

_HEADROOM = 1.1
"""Batches differ in size; a little more room lets a buffer serve the next ones too."""


def pinned(size: int) -> Memory:
    """Memory from which a GPU copies while the host goes on."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()


def _plain(size: int) -> Memory:
    return torch.empty(size, dtype=torch.uint8).numpy()


class Buffers:
    """Memory for batches, of about one size.

    The system clears fresh memory page by page, which for batches of 80 MB cost a quarter of the
    decoding. So a buffer returns here when the last tensor on it, view or not, is gone, and never
    while there is one. Threads may take at once, and tensors go in any of them.
    """

    def __init__(self, keep: int, allocate: Callable[[int], Memory] = _plain) -> None:
        """Keep at most ``keep`` buffers for later, of what ``allocate`` gives by its size."""
        self._keep = keep
        self._allocate = allocate
        # By address. Without a lock, as a buffer can return in the middle of anything, even of
        # ``take``: each step is one operation of the dictionary, which no thread can divide.
        self._free: dict[int, Memory] = {}

    def take(self, size: int) -> Tensor:
        """An uninitialised uint8 tensor ``[size]`` on the CPU, aligned as all of torch's."""
        memory = self._take_free(size)
        if memory is None:
            self._drop_oldest()
            memory = self._allocate(int(size * _HEADROOM))
        part = memory[:size]
        # The tensor's storage holds this view of the memory, and is all that does.
        weakref.finalize(part, self._give_back, memory).atexit = False
        return torch.from_numpy(part)

    @property
    def kept(self) -> int:
        """Number of buffers ready to be reused."""
        return len(self._free)

    def _take_free(self, size: int) -> Memory | None:
        for address, memory in list(self._free.items()):
            # Another thread may have been faster.
            if len(memory) >= size and self._free.pop(address, None) is not None:
                return memory
        return None

    def _drop_oldest(self) -> None:
        """Make place for a buffer that is larger than those here."""
        for address in list(self._free)[:1]:
            self._free.pop(address, None)

    def _give_back(self, memory: Memory) -> None:
        if len(self._free) < self._keep:
            self._free[memory.ctypes.data] = memory
