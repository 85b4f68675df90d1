"""The images of each step: pure functions of (seed, step, rank, world_size).

Nothing here has state, so a run that resumes at any step continues with the same images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as count_from
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cp2fast import philox
from cp2fast.errors import UserError
from cp2fast.philox import Stream
from cp2fast.wording import counted

Order = Literal["random", "quasi_random", "sequential"]

CHUNK = 256
"""Consecutive images that a quasi-random order keeps together, about 8 MB of small JPEGs."""
DEFAULT_WINDOW = 16
"""Remote shards whose images are mixed by default."""
CHUNKS_MIXED = 32
"""Chunks whose images are mixed: only this many places in the file are read at a time."""


@dataclass(frozen=True)
class Windows:
    """Shards in random order; the images of each ``width`` consecutive ones are mixed.

    Attributes:
        shard: int64 ``[N]``, number of each image's shard.
        width: shards per window.
    """

    shard: NDArray[np.int64]
    width: int

    def epoch_order(self, seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The order of an epoch, and the position of each image's shard in it.

        A batch over all processes is a random sample of its window, independent of the number of
        processes. Within the batch, images are sorted by that position, so that each process, which
        takes a slice of it, reads little more than its own share of the shards.
        """
        place = _places(seed, epoch, int(self.shard.max()) + 1)[self.shard]
        return _mixed(seed, epoch, place // self.width), place


def steps_per_epoch(count: int, global_batch: int, fewest: int = 1) -> int:
    """Batches of ``global_batch`` in ``count`` images; an incomplete last one is dropped.

    Raises:
        UserError: there is not even one, or a batch of ``fewest``, the smallest to train on.
    """
    if count < fewest:
        raise UserError(
            f"{counted(count, 'image')} cannot be trained on, because a batch needs {fewest} or "
            "more: add images"
        )
    if count < global_batch:
        raise UserError(
            f"{count} images do not fill one step of {global_batch} samples over all processes: "
            f"lower data.batch_size, so that a step takes at most {count}"
        )
    return count // global_batch


def plan(
    *,
    seed: int,
    count: int,
    batch_size: int,
    start: int = 0,
    stop: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    independent: bool = False,
    order: Order = "random",
    windows: Windows | None = None,
) -> Iterator[NDArray[np.int64]]:
    """The numbers of the images that one process decodes, step by step.

    Each epoch is a permutation of the data set (``epoch_order``). Each step takes the next
    ``batch_size * world_size`` images of it, and each rank a slice of these.

    Args:
        seed: the run's seed.
        count: images in the data set.
        batch_size: B, samples per step and process.
        start: first step, counted from the beginning of the run.
        stop: one after the last step; None never ends.
        rank: number of this process.
        world_size: number of processes.
        independent: whether to add two backgrounds per sample, from the whole data set.
        order: order within an epoch.
        windows: in which a random order mixes images; None mixes the whole data set.

    Yields:
        int64 ``[B]``, the foregrounds; with ``independent`` ``[3 B]``: the foregrounds, then the
        query's and the key's backgrounds.

    Raises:
        UserError: too few images for one step, or for one foreground and two backgrounds.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, world_size), got {rank} of {world_size}")
    per_epoch = steps_per_epoch(count, batch_size * world_size)
    if independent and count < 3:
        raise UserError(
            f"data.background=independent needs at least 3 images, and there are {count}: add more"
        )
    if windows is not None and windows.width > windows.shard.max():
        windows = None  # One would hold all shards.

    def steps() -> Iterator[NDArray[np.int64]]:
        epoch_of_numbers = -1
        for step in count_from(start) if stop is None else range(start, stop):
            epoch, position = divmod(step, per_epoch)
            if epoch != epoch_of_numbers:
                if windows is None:
                    numbers = epoch_order(order, seed, epoch, count)
                else:
                    numbers, place = windows.epoch_order(seed, epoch)
                epoch_of_numbers = epoch
            begin = position * world_size * batch_size
            everyones = numbers[begin : begin + world_size * batch_size]
            if windows is not None:
                everyones = everyones[np.argsort(place[everyones], kind="stable")]
            foreground = everyones[rank * batch_size : (rank + 1) * batch_size]
            if independent:
                yield np.concatenate([foreground, *backgrounds(seed, epoch, foreground, count)])
            else:
                yield foreground.copy()

    return steps()


def epoch_order(order: Order, seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of an epoch: a permutation of ``range(count)``.

    ``random`` is uniform. ``sequential`` is the order of the data set, the same in every epoch.
    ``quasi_random`` shuffles chunks of ``CHUNK`` consecutive images, then mixes the images of every
    ``CHUNKS_MIXED`` consecutive chunks: reads from a disk with slow seeks stay close together and
    mostly benefit from read-ahead (similar to FFCV's order of that name).
    """
    if order == "sequential":
        return np.arange(count)
    if order == "random":
        return philox.permutation(seed, Stream.ORDER, epoch, count)
    place = _places(seed, epoch, -(-count // CHUNK))[np.arange(count) // CHUNK]
    return _mixed(seed, epoch, place // CHUNKS_MIXED)


def _places(seed: int, epoch: int, parts: int) -> NDArray[np.int64]:
    """The position of each part of the data set in a random order of the parts."""
    return np.argsort(philox.permutation(seed, Stream.ORDER, epoch, parts, block=1))


def _mixed(seed: int, epoch: int, mixed_with: NDArray[np.int64]) -> NDArray[np.int64]:
    """A random permutation that only mixes images with equal ``mixed_with``, which is sorted."""
    images = philox.permutation(seed, Stream.ORDER, epoch, len(mixed_with), block=2)
    return images[np.argsort(mixed_with[images], kind="stable")]


def backgrounds(
    seed: int, epoch: int, foreground: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The query's and the key's background of each foreground: two int64 ``[B]``.

    They are uniform over the ``count`` images, at least 3, without the foreground, and differ.
    """
    random = philox.uniform(seed, Stream.BACKGROUND, epoch, foreground)
    # Draw among the remaining numbers, then skip over those that are taken, lowest first.
    query = (random[:, 0] * (count - 1)).astype(np.int64)
    query += query >= foreground
    key = (random[:, 1] * (count - 2)).astype(np.int64)
    key += key >= np.minimum(foreground, query)
    key += key >= np.maximum(foreground, query)
    return query, key


def substitute(seed: int, index: int, attempt: int, count: int) -> int:
    """The image that replaces the unreadable ``index``, among the others of ``count`` images.

    ``attempt`` is 0 for the first substitute, 1 for the next one if that is unreadable, and so on.
    """
    if count < 2:
        raise ValueError(f"count must be at least 2, got {count}")
    other = int(philox.integers(seed, Stream.SUBSTITUTE, 0, index, count - 1, block=attempt)[0])
    return other + (other >= index)
