"""``turbo_source`` in separate processes, for a run whose training thread launches kernels.

    plan -> numbers -> worker: read, decode -> memory shared with this process -> RaggedBatch

Only nine numbers per image go through the pipe, see ``workers/processes.py``.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers
from cp2fast.data.cache.arena import Arena
from cp2fast.data.decoding.levels import BY_TYPE, Levels
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.loading import Decoded, Failure, deliver
from cp2fast.data.sources.turbo_source import BATCHES_AHEAD, decode_batches
from cp2fast.data.workers.processes import split_threads, work_in_processes
from cp2fast.data.workers.shared_memory import Lender

_ASKED_AHEAD = BATCHES_AHEAD + 2
"""Batches requested per process; one is returned only after ``BATCHES_AHEAD`` more requests."""


def open_turbo_processes(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    *,
    seed: int,
    threads: int,
    max_pixels: int,
    bad: BadImages,
    max_side: int | None = None,
    levels: Levels = BY_TYPE,
    arena: Arena | None = None,
    pinned: bool = False,
) -> Generator[RaggedBatch, None, None]:
    """Like ``open_turbo``, with all threads in other processes.

    Args:
        images: the data set.
        plan: image numbers of each batch; more processes read further ahead.
        seed: seed of the run, for the substitutes of bad images.
        threads: number of decoding threads; this determines the number of processes.
        max_pixels: larger images are bad.
        bad: where bad images are counted and listed.
        max_side: images with a longer side are shrunk to it.
        levels: how values of more than 8 bits and more than three bands are converted.
        arena: a shared cache in host memory.
        pinned: whether to pin the batches' own memory, for copies to a GPU.

    Raises:
        UserError: too many bad images, or a process that died.
    """
    count, each = split_threads(threads)
    descriptor = None if arena is None else arena.address[1]
    job = _Job(images, seed, each, max_pixels, max_side, levels, descriptor)
    answers = work_in_processes(
        job,
        plan,
        count=count,
        ahead=_ASKED_AHEAD,
        inherited=[] if descriptor is None else [descriptor],
        pinned=pinned,
    )
    with closing(answers):
        for made, memory in answers:
            yield deliver(_decoded(made, memory, arena), images, bad)


def batches_in_the_making(threads: int) -> int:
    """The most batches in progress while the consumer asks for none."""
    return _ASKED_AHEAD * split_threads(threads)[0] + 1


class _Made(NamedTuple):
    """A decoded batch, without its pixels.

    Attributes:
        places: offset, height, width and index of each image; None if the batch could not be
            filled.
        tried: number of images tried.
        failures: those that could not be used.
    """

    places: list[NDArray[Any]] | None
    tried: int
    failures: list[Failure]


def _decoded(made: _Made, memory: Tensor | None, arena: Arena | None) -> Decoded:
    """The batch over its own memory, or over the cache."""
    if made.places is None:
        return Decoded(None, made.tried, made.failures)
    if memory is None:
        if arena is None:
            raise RuntimeError("an image in a cache that there is not")
        memory = arena.pixels
    batch = RaggedBatch(memory, *map(torch.from_numpy, made.places))
    return Decoded(batch, made.tried, made.failures)


@dataclass(frozen=True)
class _Job:
    """What a worker needs to decode the batches that it is asked for.

    Attributes:
        arena: descriptor of the cache, inherited by the worker; for the others see
            ``open_turbo_processes``.
    """

    images: ImageSet
    seed: int
    threads: int
    max_pixels: int
    max_side: int | None
    levels: Levels
    arena: int | None

    def run(
        self, requests: Iterator[NDArray[np.int64]], memory: Lender
    ) -> Iterator[tuple[_Made, Tensor | None]]:
        """Decode each requested batch; its pixels are in ``memory`` or in the cache."""
        arena = None
        if self.arena is not None:
            arena = Arena.attach((os.getpid(), self.arena), len(self.images))
        buffers = Buffers(keep=_ASKED_AHEAD + 1, allocate=memory.allocate)
        for decoded in decode_batches(
            self.images,
            requests,
            seed=self.seed,
            threads=self.threads,
            max_pixels=self.max_pixels,
            max_side=self.max_side,
            levels=self.levels,
            arena=arena,
            buffers=buffers,
        ):
            batch, counts = decoded.batch, (decoded.tried, decoded.failures)
            if batch is None:
                yield _Made(None, *counts), None
                continue
            places = [t.numpy() for t in (batch.offset, batch.height, batch.width, batch.index)]
            pixels: Tensor | None = batch.pixels
            if arena is not None and batch.pixels.data_ptr() == arena.pixels.data_ptr():
                pixels = None
            elif not memory.holds(batch.pixels):  # A batch with a bad image was packed again.
                pixels = buffers.take(len(batch.pixels)).copy_(batch.pixels)
            yield _Made(places, *counts), pixels
