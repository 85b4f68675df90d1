"""Decoding on the GPU and on the CPU at once: each batch is split between two sources.

    plan -> the first images -> GPU source -.
         `- the rest         -> CPU source -+-> RaggedBatch on the GPU

The split adapts: whichever source is waited for longer gets a smaller part of the next batches.
Their decoders round differently, by a few grey levels, so the pixels depend on which one decoded an
image, and such a run is not reproducible bit by bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch

Numbers = NDArray[np.int64]
Open = Callable[[Iterator[Numbers]], Iterator[RaggedBatch]]

_FIRST_SHARE = 0.5
_STEP = 0.04
"""The largest change of the share from one batch to the next."""


def open_both(plan: Iterator[Numbers], open_gpu: Open, open_cpu: Open) -> Iterator[RaggedBatch]:
    """Batches of two images or more in the order of ``plan``, on the device of both sources."""
    split = _Split(plan)
    gpu, cpu = open_gpu(split.part(0)), open_cpu(split.part(1))
    while True:
        begin = time.perf_counter()
        first = next(gpu, None)
        middle = time.perf_counter()
        rest = next(cpu, None)
        end = time.perf_counter()
        if first is None or rest is None:
            return
        split.balance(waited_gpu=middle - begin, waited_cpu=end - middle)
        yield _join(first, rest)


class _Split:
    """Both parts of each batch, whichever source asks first."""

    def __init__(self, plan: Iterator[Numbers]) -> None:
        self._share = _FIRST_SHARE
        """Share of the images that go to the first part."""
        self._plan = plan
        self._parts: tuple[deque[Numbers], deque[Numbers]] = (deque(), deque())

    def part(self, which: int) -> Iterator[Numbers]:
        """The first (0) or the second (1) part of each batch."""
        while True:
            if not self._parts[which]:
                numbers = next(self._plan, None)
                if numbers is None:
                    return
                middle = min(max(1, round(self._share * len(numbers))), len(numbers) - 1)
                self._parts[0].append(numbers[:middle])
                self._parts[1].append(numbers[middle:])
            yield self._parts[which].popleft()

    def balance(self, waited_gpu: float, waited_cpu: float) -> None:
        """Shift the share toward the source that was waited for less; times in seconds."""
        waited = waited_gpu + waited_cpu
        if waited > 0:
            self._share += _STEP * (waited_cpu - waited_gpu) / waited
            self._share = min(max(self._share, 0.0), 1.0)


def _join(first: RaggedBatch, rest: RaggedBatch) -> RaggedBatch:
    """Concatenate both batches."""
    return RaggedBatch(
        pixels=torch.cat([first.pixels, rest.pixels]),
        offset=torch.cat([first.offset, rest.offset + len(first.pixels)]),
        height=torch.cat([first.height, rest.height]),
        width=torch.cat([first.width, rest.width]),
        index=torch.cat([first.index, rest.index]),
    )
