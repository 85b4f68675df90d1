"""Decoding with libjpeg-turbo in threads, directly into the batch, for all kinds of data sets.

    plan -> threads: read files and headers -> allocate the batch, whose size the headers give
         -> threads: decode into its part of the batch, or its place in the cache -> RaggedBatch

Only common JPEGs are decoded here. Everything else (PNG, TIFF, CMYK, rotated photos) goes through
``decode_image``, which also decides whether an image is bad, so every source gives the same pixels.
If an image turns out to be bad after its batch was laid out, the batch is packed again. (For runs
on a GPU, these threads run in separate processes: ``turbo_process``.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers
from cp2fast.data.cache.arena import Arena
from cp2fast.data.decoding.decode import BadImage
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.prefetch import keep_ahead
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.heap import keep_heaps
from cp2fast.data.sources.loading import Decoded, DecodeSettings, Failure, Loaded, deliver
from cp2fast.data.sources.prepare import Pixels, Prepared, Reader

_READ_AHEAD = 2
"""Batches being read while others are decoded."""
_DECODED_AHEAD = 2
"""Batches being decoded while one is consumed."""
BATCHES_AHEAD = _READ_AHEAD + _DECODED_AHEAD
_IMAGES_PER_TASK = 8

Result = TypeVar("Result")


def open_turbo(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    settings: DecodeSettings,
    bad: BadImages,
    *,
    threads: int,
    arena: Arena | None = None,
) -> Generator[RaggedBatch, None, None]:
    """Batches in the order of ``plan``, on the CPU, each in its own memory or in the cache.

    With an ``arena`` in host memory, cached images are not read again, images that belong in it are
    decoded into it, and a batch of cached images refers to its memory.

    Raises:
        UserError: too many bad images.
    """
    buffers = Buffers(_DECODED_AHEAD + 1)
    batches = decode_batches(images, plan, settings, threads, arena, buffers)
    with closing(batches):
        for decoded in batches:
            yield deliver(decoded, images, bad)


def decode_batches(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    settings: DecodeSettings,
    threads: int,
    arena: Arena | None,
    buffers: Buffers,
) -> Generator[Decoded, None, None]:
    """Like ``open_turbo``, but yields the counts too: bad images are not accounted for yet.

    ``BATCHES_AHEAD`` more batches are taken from ``plan`` before one is yielded. Batches that are
    not in the cache are decoded into ``buffers``.
    """
    keep_heaps()
    pool = ThreadPoolExecutor(max(1, threads), "cp2fast-decode")
    decoder = _Decoder(Reader(images, settings), pool, buffers, arena)
    try:
        reading = (decoder.read(numbers) for numbers in plan)
        decoding = (decoder.decode(read()) for read in keep_ahead(reading, _READ_AHEAD))
        for decoded in keep_ahead(decoding, _DECODED_AHEAD):
            yield decoded()
    finally:
        pool.shutdown(cancel_futures=True)
        if arena is not None:
            arena.release_all()


class _Place(NamedTuple):
    """An image of a batch, and its destination."""

    read: Loaded[Prepared]
    """What was read for this position of the batch."""
    image: Prepared
    target: Pixels
    """Its part of the batch's memory, which is the cache's if all images belong there."""
    claimed: Pixels | None
    """Its place in the cache, if it is to be added there."""


@dataclass(frozen=True)
class _Decoder:
    """The stages of a batch; each method starts one and returns a function that waits for it."""

    reader: Reader
    pool: ThreadPoolExecutor
    buffers: Buffers
    arena: Arena | None

    def read(self, numbers: NDArray[np.int64]) -> Callable[[], list[Loaded[Prepared]] | Decoded]:
        """Start reading the images, unless all are in the cache."""
        cached = None if self.arena is None else self._cached(numbers, self.arena)
        if cached is not None:
            return lambda: cached
        planned = numbers.tolist()

        def read(part: slice) -> list[Loaded[Prepared]]:
            return [self.reader.read_or_replace(one, self._prepare) for one in planned[part]]

        return self._in_parts(read, len(planned))

    def decode(self, read: list[Loaded[Prepared]] | Decoded) -> Callable[[], Decoded]:
        """Lay out the batch and start decoding its images."""
        if isinstance(read, Decoded):
            return lambda: read
        images = [image.content for image in read if image.content is not None]
        if len(images) < len(read):
            return lambda: Decoded.of(read, None)
        shapes = np.array([image.size for image in images], np.int64)
        index = np.array([image.index for image in read], np.int64)
        claimed = list(map(self._claim, index.tolist(), images))
        targets = self._in_cache(index, images, claimed)
        if self.arena is not None and targets is not None:
            batch = _lay_out(self.arena.pixels, self.arena.offset[index], shapes, index)
        else:
            sizes = shapes.prod(axis=1) * 3
            memory = self.buffers.take(int(sizes.sum()))
            batch = _lay_out(memory, sizes.cumsum() - sizes, shapes, index)
            targets = list(_rooms(memory, shapes))
        places = list(map(_Place, read, images, targets, claimed))
        filled = self._in_parts(lambda part: list(map(self._fill, places[part])), len(places))
        return lambda: _finish(batch, places, filled())

    def _cached(self, numbers: NDArray[np.int64], arena: Arena) -> Decoded | None:
        """The batch if all of it is in the cache, with substitutes for images known to be bad."""
        index, failures = numbers.copy(), list[Failure]()
        for position in np.flatnonzero(self.reader.is_bad[numbers]).tolist():
            known = self.reader.read_or_replace(int(numbers[position]), self.reader.check)
            index[position] = known.index
            failures += known.failures
        if not arena.holds(index):
            return None
        return Decoded(arena.batch(index), len(index) + len(failures), failures)

    def _prepare(self, number: int) -> Prepared:
        there = None if self.arena is None else self.arena.image(number)
        return self.reader.prepare(number) if there is None else Prepared.of_pixels(there)

    def _claim(self, number: int, image: Prepared) -> Pixels | None:
        return None if self.arena is None else self.arena.claim(number, *image.size)

    def _in_cache(
        self, index: NDArray[np.int64], images: list[Prepared], claimed: list[Pixels | None]
    ) -> list[Pixels] | None:
        """Where the cache has each image, or will have it; None unless it has all of them."""
        if self.arena is None or not self.arena.holds(index[[mine is None for mine in claimed]]):
            return None
        pairs = zip(images, claimed, strict=True)
        places = [image.content if mine is None else mine for image, mine in pairs]
        in_cache = [place for place in places if not isinstance(place, bytes)]
        return in_cache if len(in_cache) == len(places) else None

    def _fill(self, place: _Place) -> Loaded[Pixels]:
        """Decode the image into its place, or use another image if it turns out to be bad."""
        read = place.read
        try:
            return Loaded(read.planned, read.index, self._decode(place), read.failures)
        except BadImage as bad:
            self.reader.remember(read.index, bad)
            return self.reader.read_or_replace(read.planned, self.reader.decode)

    def _decode(self, place: _Place) -> Pixels:
        image, number, claimed = place.image, place.read.index, place.claimed
        if claimed is not None and self.arena is not None:
            try:
                pixels = self.reader.decode_into(image, claimed)
                if pixels is claimed:
                    self.arena.publish(number, *image.size)
            finally:
                self.arena.release(number)
            image = Prepared.of_pixels(pixels)
        return self.reader.decode_into(image, place.target)

    def _in_parts(
        self, work: Callable[[slice], list[Result]], count: int
    ) -> Callable[[], list[Result]]:
        """Run ``work`` on a few images per task, to reduce the overhead of tasks."""
        tasks: list[Future[list[Result]]] = [
            self.pool.submit(work, slice(begin, begin + _IMAGES_PER_TASK))
            for begin in range(0, count, _IMAGES_PER_TASK)
        ]
        return lambda: [result for task in tasks for result in task.result()]


def _lay_out(
    pixels: Tensor, offset: NDArray[np.int64], shapes: NDArray[np.int64], index: NDArray[np.int64]
) -> RaggedBatch:
    height, width = shapes.T.astype(np.int32)
    return RaggedBatch(pixels, *map(torch.from_numpy, (offset, height, width, index)))


def _rooms(memory: Tensor, shapes: NDArray[np.int64]) -> Iterator[Pixels]:
    """Consecutive parts of ``memory`` for images of these shapes."""
    pixels, begin = memory.numpy(), 0
    for height, width in shapes.tolist():
        end = begin + height * width * 3
        yield pixels[begin:end].reshape(height, width, 3)
        begin = end


def _finish(
    batch: RaggedBatch, places: Sequence[_Place], loaded: Sequence[Loaded[Pixels]]
) -> Decoded:
    images = [image.content for image in loaded if image.content is not None]
    if len(images) < len(loaded):
        return Decoded.of(loaded, None)
    if all(image is place.target for image, place in zip(images, places, strict=True)):
        return Decoded.of(loaded, batch)
    pixels = [torch.from_numpy(image) for image in images]
    return Decoded.of(loaded, RaggedBatch.pack(pixels, [image.index for image in loaded]))
