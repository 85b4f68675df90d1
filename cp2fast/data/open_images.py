"""The images of a folder as decoded batches, epoch after epoch: a loader without a run.

root -> image set -> plan of the steps -> source, behind the pixel cache -> RaggedBatch
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import torch

from cp2fast import recipes
from cp2fast.batch import RaggedBatch
from cp2fast.config import DataSettings, fewest_images
from cp2fast.cores import decoding_workers, device_named
from cp2fast.data.cache.open import open_cache
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.scenes import data_root
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.open import open_source
from cp2fast.data.survey import find_range
from cp2fast.data.windows import check_window, windows

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
        self,
        images: ImageSet,
        steps_per_epoch: int,
        step: int,
        batches: Generator[RaggedBatch, None, None],
    ) -> None:
        self.images, self.steps_per_epoch, self.step = images, steps_per_epoch, step
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
        """Stop the threads and processes."""
        self._batches.close()


def open_images(
    root: str | Path | tuple[str, ...],
    batch_size: int,
    *,
    epochs: int | None = 1,
    start: int = 0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    **data: object,
) -> ImageBatches:
    """Decode the photos of a folder, tar shards or a ``.beton``, batch by batch.

    The order depends only on (seed, epoch), so opening again with ``start`` continues with the same
    batches. From the second epoch on, images in the pixel cache are not decoded again. A batch may
    be the cache's own memory, so clone its images before writing into them. Unreadable images are
    logged and replaced by others.

    Args:
        root: folder (nested or flat), URL or pattern of the images; or several of these.
        batch_size: B, samples per batch, per process.
        epochs: passes over the images; None never ends.
        start: batches to skip at the beginning.
        seed: seed of the order.
        device: device of the pixels.
        rank: number of this process among ``world_size``; it gets its share of each step.
        world_size: processes that share the images. Each has a pixel cache of its own: with several
            on a machine, ``cache_gib`` limits it.
        data: the other settings of ``data``, such as ``order="sequential"`` or ``workers=4``. With
            ``background="independent"`` a batch holds 3 B images, see ``RaggedBatch``.

    Returns:
        An iterator of ``RaggedBatch``: uint8 RGB pixels of different sizes in one buffer;
        ``batch.image(0)`` is the first image as ``[H, W, 3]``.

    Raises:
        UserError: no images, too few for a batch, an invalid setting, no such device, or a disk
            cache too small for its shards; while iterating, too many unreadable images.
    """
    place = device_named(device)
    epochs = _ENDLESS if epochs is None else epochs
    settings = recipes.load(DataSettings, None, {"root": root, "batch_size": batch_size, **data})
    images = list_images(data_root(settings), disk=DiskCache.of(settings))
    check_window(settings, images)
    independent, fewest = settings.background == "independent", fewest_images(settings)
    per_epoch = steps_per_epoch(len(images), settings.batch_size * world_size, fewest)
    steps = plan(
        seed=seed,
        count=len(images),
        batch_size=settings.batch_size,
        start=start,
        stop=per_epoch * epochs,
        rank=rank,
        world_size=world_size,
        independent=independent,
        order=settings.order,
        windows=windows(settings, images),
    )
    threads = decoding_workers(settings.workers)
    levels, _ = find_range(images, settings.range, settings.bands, settings.max_pixels, threads)
    settings = settings.model_copy(update={"range": levels})
    source = choose_source(settings, images, place)
    decodes = epochs * (3 if independent else 1)
    cache = open_cache(settings, images, seed, place, decodes)
    bad = BadImages(None, settings.max_bad_fraction)
    batches = open_source(source, settings, images, steps, seed, place, bad, cache.arena)
    return ImageBatches(images, per_epoch, start, batches)
