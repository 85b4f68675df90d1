"""Large buffers that are used again once nobody holds them any more."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_HEADROOM = 1.1
"""Batches differ in size; a little more room lets a buffer serve the next ones too."""


class Buffers:
    """Memory for batches.

    The system clears fresh memory page by page, which for batches of 80 MB cost a quarter of the
    decoding. So a buffer returns here when the last tensor on it, view or not, is gone, and never
    while there is one.
    """

    def __init__(self, keep: int) -> None:
        """``keep``: buffers that are kept for later at most."""
        self._keep = keep
        self._free: list[NDArray[np.uint8]] = []

    def take(self, size: int) -> Tensor:
        """An uninitialised uint8 tensor ``[size]`` on the CPU."""
        memory = next((free for free in self._free if len(free) >= size), None)
        if memory is None:
            memory = np.empty(int(size * _HEADROOM), np.uint8)
            self._free = self._free[1:]
        else:
            self._free = [free for free in self._free if free is not memory]
        part = memory[:size]
        # The tensor's storage holds this view of the memory, and is all that does.
        weakref.finalize(part, self._give_back, memory).atexit = False
        return torch.from_numpy(part)

    def _give_back(self, memory: NDArray[np.uint8]) -> None:
        if len(self._free) < self._keep:
            self._free.append(memory)
