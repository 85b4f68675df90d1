"""Upper limits for any loader: each stage alone, with the machine to itself."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.bench import system_turbojpeg
from cp2fast.bench.timing import Stream, finish
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import Background, sample_parameters
from cp2fast.data.decoding import jpeg, turbojpeg
from cp2fast.data.decoding.decode import BadImage
from cp2fast.data.decoding.shrink import shrink
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.loading import DecodeSettings
from cp2fast.errors import UserError

_CHUNK = 256
"""Images between two looks at the clock, so that threads rarely wait for each other."""
_WHOLE = DecodeSettings(seed=0, max_pixels=10**9)


def decoders(
    images: ImageSet, count: int, threads: int, how: DecodeSettings = _WHOLE
) -> dict[str, Stream]:
    """libjpeg-turbo in independent threads, for each library that calls it.

    The first ``count`` images are kept in memory, encoded, and decoded again and again, shrunk
    according to ``how``; bad ones are left out.

    Raises:
        UserError: all of these are bad.
    """
    encoded = _intact(images, min(count, len(images)), threads, how)

    def by_torchvision(number: int) -> Tensor:
        return how.decode(encoded[number])

    decode: dict[str, Callable[[int], object]] = {"torchvision": by_torchvision}
    for name, library in (("simplejpeg", turbojpeg), ("libturbojpeg", system_turbojpeg)):
        if library.problem() is None:
            decode[name] = _into_memory(encoded, library.decode_into, how.max_side, by_torchvision)
    return {name: Stream(_in_threads(threads, by, len(encoded))) for name, by in decode.items()}


def reading(images: ImageSet, threads: int) -> Stream:
    """Only reading the encoded images, from disk or the system's file cache."""

    def read(number: int) -> None:
        with suppress(BadImage):
            images.read(number)

    return Stream(_in_threads(threads, read, len(images)))


def transfer(batches: Sequence[RaggedBatch], device: torch.device) -> Stream:
    """Only copying decoded pixels from pinned memory to the GPU ``device``."""
    pinned = [batch.pixels.pin_memory() for batch in batches]
    there = [torch.empty_like(pixels, device=device) for pixels in pinned]
    samples = sum(map(len, batches))

    def run() -> Iterator[int]:
        while True:
            for pixels, place in zip(pinned, there, strict=True):
                place.copy_(pixels, non_blocking=True)
            finish(device)
            yield samples

    return Stream(run())


def augmentation(batches: Iterable[RaggedBatch], size: int, device: torch.device) -> Stream:
    """Only the fused op, on decoded batches on ``device``, including drawing parameters."""
    there = [batch.to(device) for batch in batches]
    return Stream(compose(itertools.cycle(there), size, device))


def compose(
    batches: Iterable[RaggedBatch],
    size: int,
    device: torch.device,
    background: Background = "batch",
) -> Generator[int, None, None]:
    """Compose pairs from decoded batches; yields the size of each batch when it is done."""
    for step, batch in enumerate(batches):
        parameters = sample_parameters(0, step, batch, size, background)
        pairs = copy_paste(batch, parameters, size, dtype_on(device), device=device)
        finish(device)
        yield len(pairs)


def dtype_on(device: torch.device) -> torch.dtype:
    """The dtype of composed images in a training on this device."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def _intact(images: ImageSet, count: int, threads: int, how: DecodeSettings) -> list[bytes]:
    """The files of the first ``count`` images that can be decoded."""

    def read(number: int) -> bytes | None:
        try:
            encoded = images.read(number)
            how.decode(encoded)
        except BadImage:
            return None
        return encoded

    with ThreadPoolExecutor(threads, "cp2fast-ceiling") as pool:
        intact = [encoded for encoded in pool.map(read, range(count)) if encoded is not None]
    if not intact:
        raise UserError(f"none of the first {count} images can be read: fix them, or take others")
    return intact


def _in_threads(threads: int, work: Callable[[int], object], count: int) -> Iterator[int]:
    numbers = itertools.cycle(range(count))
    with ThreadPoolExecutor(threads, "cp2fast-ceiling") as pool:
        while True:
            chunk = list(itertools.islice(numbers, _CHUNK))
            for _ in pool.map(work, chunk):
                pass
            yield len(chunk)


def _into_memory(
    encoded: Sequence[bytes],
    decode_into: Callable[[bytes, NDArray[np.uint8]], bool],
    max_side: int | None,
    otherwise: Callable[[int], object],
) -> Callable[[int], object]:
    """Decode into one buffer per thread, so without the cost of fresh memory."""
    shapes = [_shape(data) for data in encoded]
    largest = max(height * width * 3 for height, width in shapes)
    of_thread = threading.local()

    def decode(number: int) -> None:
        if not hasattr(of_thread, "buffer"):
            of_thread.buffer = np.empty(largest, np.uint8)
        height, width = shapes[number]
        place = of_thread.buffer[: height * width * 3].reshape(height, width, 3)
        if decode_into(encoded[number], place):
            shrink(place, max_side)
        else:
            otherwise(number)

    return decode


def _shape(encoded: bytes) -> tuple[int, int]:
    header = jpeg.read_header(encoded) if encoded.startswith(jpeg.SIGNATURE) else None
    return (header.height, header.width) if header else (1, 1)
