"""Fetch remote objects to the local disk before their images are needed.

plan -> which objects the next batches need -> fetched by threads into the disk cache
`-> the same plan, each batch yielded once its objects are on disk
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.cache.arena import Arena
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.order import DEFAULT_WINDOW
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.remote.objects import CONNECTIONS
from cp2fast.data.remote.retry import give_up_when

_SHARDS_AT_ONCE = 4
_OBJECTS_AHEAD = 2048
"""For single images; with shards, half of the cache is full far earlier."""
_BATCHES_AHEAD = 4096
_TOGETHER = 64
"""Images that ``fetched`` waits for together."""
_SHARE = 0.5
"""The most of the cache that prefetched objects may use; the rest is for those in use."""


def read_ahead(
    images: ImageSet,
    disk: DiskCache,
    plan: Iterator[NDArray[np.int64]],
    arena: Arena | None = None,
    window: int | None = None,
) -> Generator[NDArray[np.int64], None, None]:
    """The batches of ``plan`` in order; each is yielded once its objects are on ``disk``.

    Images in the ``arena`` are not fetched. As many shards are fetched ahead as are read in turn,
    which is ``window``.

    Raises:
        UserError: an object cannot be read, has changed, or does not fit.
    """
    ahead = _Ahead(images, disk, arena, 2 * (window or DEFAULT_WINDOW))
    try:
        for numbers in plan:
            ahead.take(numbers)
            while ahead.is_full:
                yield ahead.next_batch()
        while ahead.waiting:
            yield ahead.next_batch()
    finally:
        ahead.close()


def fetched(images: ImageSet, numbers: Sequence[int]) -> Iterator[int]:
    """The numbers in order, each yielded once its image is here. Raises as ``read_ahead``."""
    if images.disk is None:
        return iter(numbers)
    parts = (
        np.array(numbers[begin : begin + _TOGETHER], np.int64)
        for begin in range(0, len(numbers), _TOGETHER)
    )
    return (int(number) for part in read_ahead(images, images.disk, parts) for number in part)


class _Ahead:
    """The batches taken but not yet yielded, and the objects that they need."""

    def __init__(
        self, images: ImageSet, disk: DiskCache, arena: Arena | None, most_shards: int
    ) -> None:
        self.waiting: deque[tuple[NDArray[np.int64], list[int]]] = deque()
        self._images, self._disk, self._arena, self._most_shards = images, disk, arena, most_shards
        self._needed = Counter[int]()
        self._bytes = 0
        self._fetches: dict[int, Future[None]] = {}
        self._closing = threading.Event()
        threads = _SHARDS_AT_ONCE if images.has_remote_shards else CONNECTIONS
        self._pool = ThreadPoolExecutor(
            threads, "cp2fast-fetch", initializer=give_up_when, initargs=(self._closing,)
        )

    def take(self, numbers: NDArray[np.int64]) -> None:
        """Start fetching the objects of a batch."""
        wanted = numbers if self._arena is None else numbers[self._arena.missing(numbers)]
        objects = self._images.needs(wanted)
        self.waiting.append((numbers, objects))
        for number in objects:
            if not self._needed[number]:
                self._bytes += max(0, self._images.remote(number).size)
                self._fetches[number] = self._pool.submit(self._begin, number)
            self._needed[number] += 1

    @property
    def is_full(self) -> bool:
        """Whether a batch has to be yielded before more are taken."""
        shards = sum(number < len(self._images.shards) for number in self._needed)
        return bool(self.waiting) and (
            len(self.waiting) >= _BATCHES_AHEAD
            or shards >= self._most_shards
            or len(self._needed) >= _OBJECTS_AHEAD
            or self._bytes > self._disk.budget * _SHARE
        )

    def next_batch(self) -> NDArray[np.int64]:
        """The next batch, after waiting for its objects."""
        numbers, objects = self.waiting.popleft()
        for number in objects:
            self._fetches[number].result()
            self._fetch(number)  # marks it as used, and fetches it again if it was removed
            self._needed[number] -= 1
            if not self._needed[number]:
                del self._needed[number], self._fetches[number]
                self._bytes -= max(0, self._images.remote(number).size)
        return numbers

    def close(self) -> None:
        """Stop the threads and abandon what they are fetching."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, number: int) -> None:
        self._fetch(number)
        if number < len(self._images.shards):
            self._images.check_index(number)

    def _fetch(self, number: int) -> None:
        is_shard = number < len(self._images.shards)
        self._disk.fetch(self._images.remote(number), verify=is_shard)
