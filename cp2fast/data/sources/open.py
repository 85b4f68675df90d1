"""Open the source that was chosen: the batches of a plan, on the device of the training."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.config import DataSettings
from cp2fast.cores import decoding_workers
from cp2fast.data.cache.arena import Arena
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.both_source import open_both
from cp2fast.data.sources.cached_source import open_cached
from cp2fast.data.sources.choice import Choice
from cp2fast.data.sources.dali_source import open_dali
from cp2fast.data.sources.loading import DecodeSettings
from cp2fast.data.sources.read_ahead import read_ahead
from cp2fast.data.sources.torch_source import open_torch
from cp2fast.data.sources.transfer import to_gpu
from cp2fast.data.sources.turbo_process import open_turbo_processes
from cp2fast.data.sources.turbo_source import open_turbo


def open_source(
    choice: Choice,
    settings: DataSettings,
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    seed: int,
    device: torch.device,
    bad: BadImages,
    arena: Arena | None = None,
) -> Generator[RaggedBatch, None, None]:
    """The batches of ``plan``, decoded by the chosen source or taken from the cache.

    Closing the generator ends all threads and processes.

    Args:
        choice: result of ``choose_source`` for the same data set and device.
        settings: settings of the data.
        images: the data set.
        plan: image numbers of each batch.
        seed: the run's seed.
        device: device of the training and of the batches' pixels.
        bad: where bad images are counted and listed.
        arena: the pixel cache, if any.

    Raises:
        UserError: while iterating, too many bad images or a dead decoding process.
    """
    workers = decoding_workers(settings.workers)
    how = DecodeSettings.of(seed, settings)
    on_gpu = device.type == "cuda"
    first = next(plan, None)
    if first is None:
        return
    plan = chain([first], plan)
    if images.disk is not None:
        plan = read_ahead(images, images.disk, plan, arena, settings.window)

    def decoded(numbers: Iterator[NDArray[np.int64]]) -> Iterator[RaggedBatch]:
        """By the source alone, on the device where it decodes."""
        if choice.decode == "both":
            return open_both(numbers, by_dali, lambda part: to_gpu(by_turbo(part), device, workers))
        if choice.name == "dali":
            return by_dali(numbers)
        if choice.name == "torch":
            return open_torch(images, numbers, how, bad, workers=workers)
        return by_turbo(numbers)

    def by_dali(numbers: Iterator[NDArray[np.int64]]) -> Iterator[RaggedBatch]:
        gpu = None if choice.decode == "cpu" else device
        return open_dali(images, numbers, how, bad, threads=workers, gpu=gpu, largest=len(first))

    def by_turbo(numbers: Iterator[NDArray[np.int64]]) -> Iterator[RaggedBatch]:
        into = arena if in_turbo else None
        if not choice.apart:
            return open_turbo(images, numbers, how, bad, threads=workers, arena=into)
        return open_turbo_processes(
            images, numbers, how, bad, threads=workers, arena=into, pinned=on_gpu
        )

    def there(numbers: Iterator[NDArray[np.int64]]) -> Iterator[RaggedBatch]:
        batches = decoded(numbers)
        return to_gpu(batches, device, workers) if on_gpu else batches

    in_turbo = choice.name == "turbo" and arena is not None and not arena.pixels.is_cuda
    try:
        if arena is None or in_turbo:
            yield from there(plan)
        elif arena.pixels.is_cuda:
            yield from open_cached(arena, there, plan, len(images), bad)
        else:
            batches = open_cached(arena, decoded, plan, len(images), bad)
            yield from to_gpu(batches, device, workers) if on_gpu else batches
    finally:
        # DALI holds the plan in a circle of references. Collecting it later, in whichever thread
        # that happens, could join the fetching threads in the one that they wait for.
        if isinstance(plan, Generator):
            plan.close()
