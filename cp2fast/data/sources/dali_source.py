"""Decoding with NVIDIA DALI, on the CPU or on the GPU.

    plan -> threads: read, look at the header -> DALI: decode -> RaggedBatch
                     `-- decode what is no common JPEG ---------^

DALI decodes plain JPEGs, several images at once, into one buffer that is copied into the batch.
Everything else (PNG, WebP, CMYK, suspicious JPEG) goes through ``decode_image`` instead, so every
source gives the same pixels. If DALI fails on an image, its pipeline is lost: that batch is decoded
without DALI too, and a new pipeline continues with the next one.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers
from cp2fast.data.decoding.decode import CommonJpeg, common_jpeg
from cp2fast.data.decoding.shrink import fitted
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.prefetch import keep_ahead
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.dali_batch import Batch, Place, assemble
from cp2fast.data.sources.heap import share_heaps, trim_heaps
from cp2fast.data.sources.loading import Decoded, DecodeSettings, deliver
from cp2fast.data.sources.prepare import Reader
from cp2fast.errors import UserError

_DEPTH = 2
"""Batches being read ahead; DALI holds as many of its own."""
_FEWEST_READERS = 4
_MAX_UNEXPLAINED = 3
_HARDWARE_SHARE = 0.9
"""Share of the images for the GPU's JPEG engine, if it has one; CUDA cores decode the rest.
``bench loader`` measures others."""
_TRIM_EVERY = 16
"""Batches between two trims; freed memory has to be requested again, page by page."""
_POOLED = "1M"
"""Smallest host allocation that uses DALI's own pool. The default is 32 MB, and smaller buffers of
varying sizes would fragment the C library's heaps, which then grow for many epochs."""


def open_dali(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    settings: DecodeSettings,
    bad: BadImages,
    *,
    threads: int,
    gpu: torch.device | None,
    largest: int | None = None,
    hardware_share: float = _HARDWARE_SHARE,
) -> Iterator[RaggedBatch]:
    """Batches in the order of ``plan``, on the device that decodes.

    Args:
        images: the data set.
        plan: image numbers of each batch.
        settings: how images become pixels; those to be shrunk are decoded without DALI.
        bad: where bad images are counted and listed.
        threads: threads of DALI's decoder.
        gpu: device that decodes JPEG and holds the batches; None is the CPU.
        largest: the most images in a batch; None is the size of the first.
        hardware_share: share of the images for the GPU's JPEG engine, 0 to 1.

    Raises:
        UserError: too many bad images, or DALI fails although the images are valid.
    """
    threads = max(1, threads)
    share_heaps()
    reader = Reader(images, settings)
    pool = ThreadPoolExecutor(max(_FEWEST_READERS, threads), "cp2fast-read")

    def prepare(number: int) -> CommonJpeg | Tensor:
        """The encoded image if DALI can decode it, else its pixels. Raises BadImage."""
        encoded = images.read(number)
        common = common_jpeg(encoded, settings.max_pixels)
        if common is None:
            return settings.decode(encoded)
        size = (common.height, common.width)
        return common if fitted(*size, settings.max_side) == size else settings.decode(encoded)

    def decode(number: int) -> Tensor:
        return settings.decode(images.read(number))

    def submit(
        numbers: Sequence[int], read: Callable[[int], CommonJpeg | Tensor]
    ) -> list[Future[Place]]:
        return [pool.submit(reader.read_or_replace, number, read) for number in numbers]

    try:
        reading = (submit(numbers.tolist(), prepare) for numbers in plan)
        batches = (_results(futures) for futures in keep_ahead(reading, _DEPTH))
        decoded = decode_batches(
            batches,
            lambda batch: _results(submit([place.planned for place in batch], decode)),
            threads,
            gpu,
            largest,
            hardware_share,
        )
        for step, batch in enumerate(decoded, 1):
            yield deliver(batch, images, bad)
            if step % _TRIM_EVERY == 0:
                trim_heaps()
    finally:
        pool.shutdown(cancel_futures=True)


def decode_batches(
    batches: Iterator[Batch],
    decode_without_dali: Callable[[Batch], Batch],
    threads: int,
    gpu: torch.device | None,
    largest: int | None,
    hardware_share: float,
) -> Iterator[Decoded]:
    """Decode the JPEGs of each batch with DALI; other arguments are those of ``open_dali``.

    ``decode_without_dali`` decodes a batch on which DALI has failed.

    Raises:
        UserError: DALI fails on several batches in a row whose images are all readable.
    """
    again: deque[Batch] = deque()
    in_dali: deque[Batch] = deque()
    filler = _encode_filler()

    def feed() -> list[NDArray[np.uint8]]:
        batch = again.popleft() if again else next(batches)
        in_dali.append(batch)
        jpegs = [place.content for place in batch if isinstance(place.content, CommonJpeg)]
        encoded = [one.encoded for one in jpegs] or [filler]
        return [np.frombuffer(data, np.uint8) for data in encoded]

    first = next(batches, None)
    if first is None:
        return
    again.append(first)
    largest = len(first) if largest is None else largest
    pipeline = _build(feed, largest, threads, gpu, hardware_share)
    # A stream of its own: on the consumer's stream, decoding would wait behind the training.
    stream = None if gpu is None else torch.cuda.Stream(gpu)  # type: ignore[no-untyped-call]
    buffers = Buffers(keep=_DEPTH + 2)
    unexplained = 0
    while True:
        pipeline.schedule_run()
        try:
            (output,) = pipeline.share_outputs(stream)
        except StopIteration:
            return
        except RuntimeError as error:
            failed = in_dali.popleft()
            again.extendleft(reversed(in_dali))
            in_dali.clear()
            pipeline = _build(feed, largest, threads, gpu, hardware_share)
            decoded = assemble(decode_without_dali(failed), None, stream, buffers)
            explained = len(decoded.failures) > sum(len(place.failures) for place in failed)
            unexplained = 0 if explained else unexplained + 1
            if unexplained == _MAX_UNEXPLAINED:
                raise UserError(
                    f"DALI failed on {unexplained} batches in a row whose images are all readable "
                    f"({_reason(error)}): set data.decode=cpu or data.source=torch"
                ) from error
            yield decoded
        else:
            pipeline.release_outputs()
            unexplained = 0
            yield assemble(in_dali.popleft(), output, stream, buffers)


def _build(
    feed: Callable[[], list[NDArray[np.uint8]]],
    batch_size: int,
    threads: int,
    gpu: torch.device | None,
    hardware_share: float,
) -> Any:
    os.environ.setdefault("DALI_MALLOC_POOL_THRESHOLD", _POOLED)  # read at its first allocation
    from nvidia.dali import Pipeline, fn, types

    pipeline = Pipeline(
        batch_size=batch_size,
        num_threads=threads,
        device_id=None if gpu is None else _device_number(gpu),
        prefetch_queue_depth=_DEPTH,
    )
    with pipeline:
        encoded = fn.external_source(source=feed, batch=True, dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(
            fn.decoders.image(
                encoded,
                device="cpu" if gpu is None else "mixed",
                output_type=types.RGB,
                adjust_orientation=False,
                # The arguments below are for the GPU, and make its results match the CPU's.
                hw_decoder_load=hardware_share,
                jpeg_fancy_upsampling=True,
            )
        )
    pipeline.build()
    return pipeline


def _results(futures: list[Future[Place]]) -> Batch:
    return [future.result() for future in futures]


def _encode_filler() -> bytes:
    """A small grey JPEG for a batch without JPEGs, because DALI rejects empty batches."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(buffer, "JPEG")
    return buffer.getvalue()


def _device_number(gpu: torch.device) -> int:
    return torch.cuda.current_device() if gpu.index is None else gpu.index


def _reason(error: Exception) -> str:
    """The line of DALI's long message that states the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "")
