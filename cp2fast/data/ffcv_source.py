"""Decoding from FFCV's ``.beton``, in threads, into the batch itself.

    plan -> the batch's buffer, whose size the file's index tells
         -> threads: read, decode into the image's place -> RaggedBatch

FFCV's own Loader gives images of one size, reorders and drops, and hands out memory that it soon
uses again; so only its file format is used, and its JPEG library (``turbojpeg.py``). A sample
that this decoder does not take whole goes round it by ``decode_image``, which decides whether it
is bad, so every source gives the same pixels. Such a batch is packed anew, in a new buffer.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers
from cp2fast.data import turbojpeg
from cp2fast.data.bad_images import BadImages
from cp2fast.data.beton import RAW
from cp2fast.data.decode import BadImage, check_size, decode_image
from cp2fast.data.images import ImageSet
from cp2fast.data.loading import Decoded, Loaded, deliver, load
from cp2fast.data.orientation import UPRIGHT, orientation_of

_AHEAD = 2
"""Batches being decoded while one is consumed."""
_IMAGES_A_TASK = 8


def open_ffcv(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    *,
    seed: int,
    threads: int,
    max_pixels: int,
    bad: BadImages,
) -> Iterator[RaggedBatch]:
    """Batches in the order of ``plan``, on the CPU, each in memory of its own.

    Args:
        images: of a ``.beton``.
        plan: image numbers of each batch.
        seed: of the run, for the substitutes of bad images.
        threads: that decode; at least one is used.
        max_pixels: larger images are bad.
        bad: where bad images are counted and listed.

    Raises:
        UserError: too many bad images.
    """
    with (
        Path(images.shards[0]).open("rb", buffering=0) as file,
        ThreadPoolExecutor(max(1, threads), "cp2fast-decode") as pool,
    ):
        samples = _Samples(images, file.fileno(), max_pixels)
        buffers = Buffers(keep=_AHEAD + 1)
        started: deque[_Started] = deque()
        try:
            for numbers in plan:
                started.append(_start(numbers, samples, buffers, seed, pool))
                if len(started) > _AHEAD:
                    yield deliver(_finish(started.popleft()), images, bad)
            while started:
                yield deliver(_finish(started.popleft()), images, bad)
        finally:
            pool.shutdown(cancel_futures=True)


class _Samples:
    """The images of the file by their number."""

    def __init__(self, images: ImageSet, descriptor: int, max_pixels: int) -> None:
        self.count = len(images)
        self._places, self._pixels = images.places, images.pixels
        self._descriptor = descriptor
        self._max_pixels = max_pixels

    def shapes(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Height and width ``[B, 2]`` of images; 0 x 0 of those that are too large."""
        shapes = self._pixels[numbers, :2]
        fits = shapes.prod(axis=1, keepdims=True) <= self._max_pixels
        return np.where(fits, shapes, 0)

    def decode(self, number: int, place: Tensor | None) -> Tensor:
        """The image's pixels, in ``place`` if it is given and the decoder takes them whole.

        Raises:
            BadImage: it cannot be read.
        """
        height, width, mode = self._pixels[number].tolist()
        check_size(height, width, self._max_pixels)
        _, offset, size = self._places[number].tolist()
        image = torch.empty(height, width, 3, dtype=torch.uint8) if place is None else place
        try:
            if mode == RAW:
                if size != image.numel():
                    raise BadImage("incomplete pixels")
                if os.preadv(self._descriptor, [image.numpy().data], offset) < size:
                    raise BadImage("the file ends before its pixels do")
                return image
            data = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror}") from error
        if orientation_of(data) == UPRIGHT and turbojpeg.decode_into(data, image):
            return image
        return decode_image(data, self._max_pixels)


class _Started(NamedTuple):
    """A batch whose images are being decoded, each into its place."""

    batch: RaggedBatch
    places: list[Tensor]
    tasks: list[Future[list[Loaded[Tensor]]]]


def _start(
    numbers: NDArray[np.int64],
    samples: _Samples,
    buffers: Buffers,
    seed: int,
    pool: ThreadPoolExecutor,
) -> _Started:
    shapes = torch.from_numpy(samples.shapes(numbers))
    sizes = shapes.prod(dim=1) * 3
    batch = RaggedBatch(
        pixels=buffers.take(int(sizes.sum())),
        offset=sizes.cumsum(0) - sizes,
        height=shapes[:, 0].int(),
        width=shapes[:, 1].int(),
        index=torch.tensor(numbers, dtype=torch.int64),
    )
    places = [batch.image(position) for position in range(len(batch))]

    def load_into(planned: int, place: Tensor) -> Loaded[Tensor]:
        # A substitute has another size, and gets memory of its own.
        return load(
            planned,
            lambda number: samples.decode(number, place if number == planned else None),
            seed,
            samples.count,
        )

    def load_some(positions: slice) -> list[Loaded[Tensor]]:
        return list(map(load_into, numbers[positions].tolist(), places[positions]))

    starts = range(0, len(batch), _IMAGES_A_TASK)
    tasks = [pool.submit(load_some, slice(i, i + _IMAGES_A_TASK)) for i in starts]
    return _Started(batch, places, tasks)


def _finish(started: _Started) -> Decoded:
    loaded = [place for task in started.tasks for place in task.result()]
    images = [place.content for place in loaded if place.content is not None]
    if len(images) < len(loaded):
        return Decoded.of(loaded, None)
    if all(image is place for image, place in zip(images, started.places, strict=True)):
        return Decoded.of(loaded, started.batch)
    return Decoded.of(loaded, RaggedBatch.pack(images, [place.index for place in loaded]))
