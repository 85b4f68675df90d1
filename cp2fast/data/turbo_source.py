"""Decoding with libjpeg-turbo in threads, into the batch itself: folders, shards, ``.beton`` alike.

    plan -> threads: read, look at the header -> the batch's memory, whose size the headers tell
         -> threads: decode into the image's room -> RaggedBatch

Only common JPEG is decoded here. Everything else (PNG, WebP, CMYK, turned, suspicious JPEG) goes
round it by ``decode_image``, which decides whether an image is bad, so every source gives the same
pixels. A batch in which that happens late, when its memory is laid out, is packed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers
from cp2fast.data import turbojpeg
from cp2fast.data.bad_images import BadImages
from cp2fast.data.decode import BadImage
from cp2fast.data.files import Files, Prepared
from cp2fast.data.images import ImageSet
from cp2fast.data.loading import Decoded, Loaded, deliver, load
from cp2fast.data.prefetch import keep_ahead
from cp2fast.data.shrink import shrink

_READ_AHEAD = 2
"""Batches being read while others are decoded."""
_DECODED_AHEAD = 2
"""Batches being decoded while one is consumed."""
_IMAGES_A_TASK = 8

Pixels = NDArray[np.uint8]
Result = TypeVar("Result")


def open_turbo(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    *,
    seed: int,
    threads: int,
    max_pixels: int,
    bad: BadImages,
    max_side: int | None = None,
) -> Iterator[RaggedBatch]:
    """Batches in the order of ``plan``, on the CPU, each in memory of its own.

    Args:
        images: the data set.
        plan: image numbers of each batch.
        seed: of the run, for the substitutes of bad images.
        threads: that decode; at least one is used.
        max_pixels: larger images are bad.
        bad: where bad images are counted and listed.
        max_side: longer images are shrunk to it.

    Raises:
        UserError: too many bad images.
    """
    files = Files(images, max_pixels, max_side)
    pool = ThreadPoolExecutor(max(1, threads), "cp2fast-decode")
    buffers = Buffers(keep=_DECODED_AHEAD + 1)
    try:
        reading = (_read(numbers, files, seed, pool) for numbers in plan)
        decoding = (
            _decode(_results(read), files, seed, buffers, pool)
            for read in keep_ahead(reading, _READ_AHEAD)
        )
        for started in keep_ahead(decoding, _DECODED_AHEAD):
            yield deliver(_finish(started), images, bad)
    finally:
        pool.shutdown(cancel_futures=True)


class _Decoding(NamedTuple):
    """A batch whose images are being decoded, each into its room."""

    batch: RaggedBatch
    rooms: list[Pixels]
    tasks: list[Future[list[Loaded[Pixels]]]]


def _read(
    numbers: NDArray[np.int64], files: Files, seed: int, pool: ThreadPoolExecutor
) -> list[Future[list[Loaded[Prepared]]]]:
    planned = numbers.tolist()

    def read(part: slice) -> list[Loaded[Prepared]]:
        return [load(number, files.prepare, seed, len(files)) for number in planned[part]]

    return _in_parts(read, len(planned), pool)


def _decode(
    loaded: Sequence[Loaded[Prepared]],
    files: Files,
    seed: int,
    buffers: Buffers,
    pool: ThreadPoolExecutor,
) -> _Decoding:
    shapes = np.array([_shape(place.content) for place in loaded], np.int64)
    sizes = shapes.prod(axis=1) * 3
    ends = sizes.cumsum()
    memory = buffers.take(int(ends[-1]))
    batch = RaggedBatch(
        pixels=memory,
        offset=torch.from_numpy(ends - sizes),
        height=torch.from_numpy(shapes[:, 0].astype(np.int32)),
        width=torch.from_numpy(shapes[:, 1].astype(np.int32)),
        index=torch.tensor([place.index for place in loaded], dtype=torch.int64),
    )
    pixels = memory.numpy()
    rooms = [
        pixels[end - height * width * 3 : end].reshape(height, width, 3)
        for end, (height, width) in zip(ends.tolist(), shapes.tolist(), strict=True)
    ]

    def decode(part: slice) -> list[Loaded[Pixels]]:
        places = zip(loaded[part], rooms[part], strict=True)
        return [_fill(place, room, files, seed) for place, room in places]

    return _Decoding(batch, rooms, _in_parts(decode, len(rooms), pool))


def _shape(prepared: Prepared | None) -> tuple[int, int]:
    return (0, 0) if prepared is None else (prepared.height, prepared.width)


def _fill(place: Loaded[Prepared], room: Pixels, files: Files, seed: int) -> Loaded[Pixels]:
    """The image in its room; one that turns out to be bad gives way, to one in other memory."""
    if place.content is None:
        return Loaded(place.planned, place.index, None, place.failures)
    try:
        pixels = decode_prepared(place.content, room, files)
    except BadImage as bad:
        files.remember(place.index, bad)
        return load(place.planned, files.decode, seed, len(files))
    return Loaded(place.planned, place.index, pixels, place.failures)


def decode_prepared(prepared: Prepared, room: Pixels, files: Files) -> Pixels:
    """The pixels ``[H, W, 3]``: in ``room``, unless they are not of the size that was told.

    Raises:
        BadImage: it cannot be read.
    """
    content = prepared.content
    if isinstance(content, bytes):
        stored = prepared.header and (prepared.header.height, prepared.header.width)
        if stored and stored != (prepared.height, prepared.width):
            content = shrink(_decode_anywhere(content, stored, files), files.max_side)
        elif turbojpeg.decode_into(content, room):
            return room
        else:
            content = files.decode_rare(content)
    if content.shape != room.shape:
        return content
    room[...] = content
    return room


def _decode_anywhere(encoded: bytes, shape: tuple[int, int], files: Files) -> Pixels:
    """The pixels at the size that the file has."""
    pixels = np.empty((*shape, 3), np.uint8)
    return pixels if turbojpeg.decode_into(encoded, pixels) else files.decode_rare(encoded)


def _in_parts(
    work: Callable[[slice], list[Result]], count: int, pool: ThreadPoolExecutor
) -> list[Future[list[Result]]]:
    """``work`` on a few images a task: a task for each would cost more in handing over."""
    return [
        pool.submit(work, slice(i, i + _IMAGES_A_TASK)) for i in range(0, count, _IMAGES_A_TASK)
    ]


def _results(tasks: Sequence[Future[list[Result]]]) -> list[Result]:
    return [result for task in tasks for result in task.result()]


def _finish(started: _Decoding) -> Decoded:
    loaded = _results(started.tasks)
    images = [place.content for place in loaded if place.content is not None]
    if len(images) < len(loaded):
        return Decoded.of(loaded, None)
    if all(image is room for image, room in zip(images, started.rooms, strict=True)):
        return Decoded.of(loaded, started.batch)
    pixels = [torch.from_numpy(image) for image in images]
    return Decoded.of(loaded, RaggedBatch.pack(pixels, [place.index for place in loaded]))
