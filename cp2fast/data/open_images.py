"""The images of a folder as decoded batches, epoch after epoch: a loader without a run.

root -> image set -> plan of the steps -> source, behind the pixel cache -> RaggedBatch
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from cp2fast.batch import RaggedBatch
from cp2fast.config import DataSettings, fewest_images
from cp2fast.cores import decoding_workers
from cp2fast.data.cache.open import Sharing, open_cache
from cp2fast.data.demo import data_root
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.open import open_source
from cp2fast.data.survey import find_range
from cp2fast.data.windows import windows

_ENDLESS = 1 << 31
"""More epochs than anyone will reach."""


class ImageBatches(Iterator[RaggedBatch]):
    """Decoded batches, made ahead in threads or processes until ``close`` or the last batch.

    Attributes:
        images: the data set; ``images.name(number)`` is the file of a number in ``batch.index``.
        steps_per_epoch: batches per epoch; an incomplete last batch is dropped.
        step: batches yielded, counted from the beginning of the first epoch.
    """

    def __init__(
        self, images: ImageSet, steps_per_epoch: int, step: int, batches: Iterator[RaggedBatch]
    ) -> None:
        self.images = images
        self.steps_per_epoch = steps_per_epoch
        self.step = step
        self._batches = batches

    @property
    def epoch(self) -> int:
        """The epoch of the last batch that was yielded, from 0; for ``sample_parameters``."""
        return max(0, self.step - 1) // self.steps_per_epoch

    def __next__(self) -> RaggedBatch:
        batch = next(self._batches)
        self.step += 1
        return batch

    def close(self) -> None:
        """Stop the decoding threads and processes."""
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()


def open_batches(
    settings: DataSettings,
    *,
    epochs: int | None,
    start: int,
    seed: int,
    device: torch.device,
    rank: int,
    world_size: int,
) -> ImageBatches:
    """See ``cp2fast.open_images``.

    Raises:
        UserError: no images, too few images, or no source that works here.
    """
    images = list_images(data_root(settings), disk=DiskCache.of(settings))
    fewest = fewest_images(settings)
    per_epoch = steps_per_epoch(len(images), settings.batch_size * world_size, fewest)
    steps = plan(
        seed=seed,
        count=len(images),
        batch_size=settings.batch_size,
        start=start,
        stop=per_epoch * (_ENDLESS if epochs is None else epochs),
        rank=rank,
        world_size=world_size,
        independent=settings.background == "independent",
        order=settings.order,
        windows=windows(settings, images),
    )
    first = next(steps, None)
    if first is None:
        return ImageBatches(images, per_epoch, start, iter(()))
    threads = decoding_workers(settings.workers)
    levels, _ = find_range(images, settings.range, settings.bands, settings.max_pixels, threads)
    settings = settings.model_copy(update={"range": levels})
    source = choose_source(settings, images, device)
    decodes = len(first) / settings.batch_size * (epochs or _ENDLESS)
    cache = open_cache(settings, images, seed, device, decodes, Sharing())
    bad = BadImages(None, settings.max_bad_fraction)
    numbers = itertools.chain([first], steps)
    batches = open_source(source, settings, images, numbers, seed, device, bad, cache.arena)
    return ImageBatches(images, per_epoch, start, batches)
