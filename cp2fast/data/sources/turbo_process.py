"""``turbo_source`` in separate processes, for a run whose training thread launches kernels.

    plan -> numbers -> worker: read, decode -> memory shared with this process -> RaggedBatch

Only nine numbers per image go through the pipe, see ``workers/processes.py``.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers
from cp2fast.data.cache.arena import Arena
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.loading import Decoded, DecodeSettings, deliver
from cp2fast.data.sources.turbo_source import BATCHES_AHEAD, decode_batches
from cp2fast.data.workers.processes import split_threads, work_in_processes
from cp2fast.data.workers.shared_memory import Lender

_ASKED_AHEAD = BATCHES_AHEAD + 2
"""Batches requested per process; one is returned only after ``BATCHES_AHEAD`` more requests."""
_Made = tuple[Decoded, list[NDArray[Any]] | None]
"""Counts without a batch, and the offset, height, width and index of each of its images; None if it
could not be filled."""


def open_turbo_processes(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    settings: DecodeSettings,
    bad: BadImages,
    *,
    threads: int,
    arena: Arena | None = None,
    pinned: bool = False,
) -> Generator[RaggedBatch, None, None]:
    """Like ``open_turbo``, with all threads in other processes.

    The number of threads determines that of the processes; more of these read further ahead. An
    ``arena`` must be shared. ``pinned`` pins the batches' own memory, for copies to a GPU.

    Raises:
        UserError: too many bad images, or a process that died.
    """
    count, each = split_threads(threads)
    descriptor = None if arena is None else arena.address[1]
    job = _Job(images, settings, each, descriptor)
    answers = work_in_processes(
        job,
        plan,
        count=count,
        ahead=_ASKED_AHEAD,
        inherited=[] if descriptor is None else [descriptor],
        pinned=pinned,
    )
    cached = torch.empty(0, dtype=torch.uint8) if arena is None else arena.pixels
    with closing(answers):
        for (decoded, places), memory in answers:
            if places is not None:
                pixels = cached if memory is None else memory
                batch = RaggedBatch(pixels, *map(torch.from_numpy, places))
                decoded = replace(decoded, batch=batch)
            yield deliver(decoded, images, bad)


def batches_in_the_making(threads: int) -> int:
    """The most batches in progress while the consumer asks for none."""
    return _ASKED_AHEAD * split_threads(threads)[0] + 1


@dataclass(frozen=True)
class _Job:
    """What a worker needs to decode the batches that it is asked for."""

    images: ImageSet
    settings: DecodeSettings
    threads: int
    arena: int | None
    """Descriptor of the cache, inherited by the worker."""

    def run(
        self, requests: Iterator[NDArray[np.int64]], memory: Lender
    ) -> Iterator[tuple[_Made, Tensor | None]]:
        """Decode each requested batch; its pixels are in ``memory`` or in the cache."""
        arena = None
        if self.arena is not None:
            arena = Arena.attach((os.getpid(), self.arena), len(self.images))
        buffers = Buffers(keep=_ASKED_AHEAD + 1, allocate=memory.allocate)
        for decoded in decode_batches(
            self.images, requests, self.settings, self.threads, arena, buffers
        ):
            batch = decoded.batch
            if batch is None:
                yield (decoded, None), None
                continue
            places = [t.numpy() for t in (batch.offset, batch.height, batch.width, batch.index)]
            pixels: Tensor | None = batch.pixels
            if arena is not None and batch.pixels.data_ptr() == arena.pixels.data_ptr():
                pixels = None
            elif not memory.holds(batch.pixels):  # A batch with a bad image was packed again.
                pixels = buffers.take(len(batch.pixels)).copy_(batch.pixels)
            yield (replace(decoded, batch=None), places), pixels
