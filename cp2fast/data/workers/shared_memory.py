"""Memory that a worker process fills and its parent reads: anonymous, gone with its last user.

The worker lends a block with each answer. The parent maps it once, by a descriptor that comes
through their pipe, and gives it back when nothing there refers to it any more.
"""

from __future__ import annotations

import itertools
import mmap
import os
import weakref
from collections import deque
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Memory = NDArray[np.uint8]


class Loan(NamedTuple):
    """Part of a block: its key, the bytes used from its beginning, and all keys that exist."""

    key: int
    size: int
    known: list[int]


class Lender:
    """The worker's side: blocks with a key each."""

    def __init__(self) -> None:
        self._blocks: weakref.WeakValueDictionary[int, Memory] = weakref.WeakValueDictionary()
        self._descriptors: dict[int, int] = {}
        self._lent: dict[int, Tensor] = {}
        self._counter = itertools.count()

    def allocate(self, size: int) -> Memory:
        """Allocate a new block; for ``Buffers``."""
        descriptor, key = os.memfd_create("cp2fast-batch"), next(self._counter)
        os.ftruncate(descriptor, max(1, size))
        memory = np.frombuffer(mmap.mmap(descriptor, max(1, size)), np.uint8)
        self._blocks[key], self._descriptors[key] = memory, descriptor
        weakref.finalize(memory, _close, self._descriptors, key).atexit = False
        return memory

    def holds(self, part: Tensor) -> bool:
        """Whether it is the beginning of one of these blocks."""
        return self._key(part) is not None

    def lend(self, part: Tensor) -> tuple[Loan, int | None]:
        """Keep the block of ``part`` until it is given back.

        Returns:
            The loan, and the block's descriptor, once: None if the parent already has it.
        """
        key = self._key(part)
        if key is None:
            raise ValueError("part must be the beginning of a block of allocate")
        self._lent[key] = part
        return Loan(key, len(part), list(self._blocks)), self._descriptors.pop(key, None)

    def take_back(self, keys: Collection[int]) -> None:
        """Allow blocks that the parent no longer uses to be written again."""
        for key in keys:
            del self._lent[key]

    def _key(self, part: Tensor) -> int | None:
        address = part.data_ptr()
        found = (key for key, block in self._blocks.items() if block.ctypes.data == address)
        return next(found, None)


class Borrower:
    """The parent's side."""

    def __init__(self, pinned: bool) -> None:
        """Nothing borrowed yet; ``pinned`` pins the blocks, for copies to a GPU."""
        self._pinned = pinned
        self._blocks: dict[int, Memory] = {}
        self._unused: deque[int] = deque()

    def map(self, key: int, descriptor: int) -> None:
        """Map a new block; closes the descriptor."""
        try:
            mapping = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        self._blocks[key] = np.frombuffer(mapping, np.uint8)
        if self._pinned:
            _pin(self._blocks[key])

    def borrow(self, loan: Loan) -> Tensor:
        """The bytes of a loan: uint8, until the last tensor that refers to them is gone."""
        for key in self._blocks.keys() - set(loan.known):
            del self._blocks[key]
        part = self._blocks[loan.key][: loan.size]
        # The tensor's storage holds this view; once it is gone, the worker may reuse the memory.
        weakref.finalize(part, self._unused.append, loan.key).atexit = False
        return torch.from_numpy(part)

    def give_back(self) -> list[int]:
        """The keys of blocks that are no longer used, each once; for ``Lender.take_back``."""
        return [self._unused.popleft() for _ in range(len(self._unused))]


def _close(descriptors: dict[int, int], key: int) -> None:
    """Close the descriptor of a block that is gone, unless it was handed over."""
    descriptor = descriptors.pop(key, None)
    if descriptor is not None:
        os.close(descriptor)


def _pin(memory: Memory) -> None:
    """Pin memory so that copies to a GPU do not block; if this fails, copies block."""
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = memory.ctypes.data
    if int(runtime.cudaHostRegister(address, len(memory), 0)) == 0:
        weakref.finalize(memory, runtime.cudaHostUnregister, address).atexit = False
