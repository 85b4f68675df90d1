"""Decoding with NVIDIA DALI, on the CPU or on the GPU.

    plan -> threads: read, look at the header -> DALI: decode -> RaggedBatch
                     `-- decode what is no common JPEG ---------^

DALI decodes plain JPEG, several images at once, into one buffer that is copied into the batch.
Everything else (PNG, WebP, CMYK, suspicious JPEG) goes round it by ``decode_image``, so every
source gives the same pixels. An image on which DALI fails costs its pipeline: that batch is decoded
round it too, and a new pipeline goes on with the next one.
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
from cp2fast.data.bad_images import BadImages
from cp2fast.data.dali_batch import Batch, Place, pack
from cp2fast.data.decode import BadImage, CommonJpeg, common_jpeg, decode_image, read_image
from cp2fast.data.heap import share_heaps, trim_heaps
from cp2fast.data.image_set import ImageSet
from cp2fast.data.levels import BY_TYPE, Levels
from cp2fast.data.loading import Decoded, deliver, load
from cp2fast.data.prefetch import keep_ahead
from cp2fast.data.shrink import fitted
from cp2fast.errors import UserError

_DEPTH = 2
"""Batches being read ahead, while DALI holds as many of its own."""
_FEWEST_READERS = 4
_MAX_UNEXPLAINED = 3
_HARDWARE_SHARES: dict[tuple[int, int], float] = {}
"""Of the images that the GPU's JPEG engine takes, by compute capability, as ``bench loader`` found
it best; CUDA cores take the rest."""
_HARDWARE_SHARE = 0.9
"""Where nothing was measured; GPUs without an engine heed none."""
_TRIM_EVERY = 16
"""Batches between two trims: what they return is asked for again, page by page."""
_POOLED = "1M"
"""Host memory from this size on is DALI's own pool's. By default only from 32 MB on, and buffers of
ever other sizes would leave the C library's heaps in pieces, growing for many epochs."""


def open_dali(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    *,
    seed: int,
    threads: int,
    gpu: torch.device | None,
    max_pixels: int,
    bad: BadImages,
    max_side: int | None = None,
    levels: Levels = BY_TYPE,
    largest: int | None = None,
    hardware_share: float | None = None,
) -> Iterator[RaggedBatch]:
    """Batches in the order of ``plan``, where they were decoded.

    Args:
        images: the data set.
        plan: image numbers of each batch.
        seed: seed of the run, for the substitutes of bad images.
        threads: of DALI's decoder; at least one is used.
        gpu: decodes JPEG and holds the batches; None is the CPU.
        max_pixels: larger images are bad.
        bad: where bad images are counted and listed.
        max_side: longer images are decoded round it, and shrunk.
        levels: what values of more than 8 bits, and more bands than three, become.
        largest: most images of a batch; None is as many as the first has.
        hardware_share: of the images that the GPU's JPEG engine takes, 0 to 1; None is the best
            known for the GPU.

    Raises:
        UserError: too many bad images, or DALI fails where nothing is wrong with the images.
    """
    threads = max(1, threads)
    if hardware_share is None:
        hardware_share = _best_share(gpu)
    share_heaps()
    files = _Files(images, max_pixels, max_side, levels)
    pool = ThreadPoolExecutor(max(_FEWEST_READERS, threads), "cp2fast-read")

    def submit(
        numbers: Sequence[int], read: Callable[[int], CommonJpeg | Tensor]
    ) -> list[Future[Place]]:
        return [pool.submit(load, number, read, seed, len(images)) for number in numbers]

    try:
        reading = (submit(numbers.tolist(), files.prepare) for numbers in plan)
        batches = (_results(futures) for futures in keep_ahead(reading, _DEPTH))
        decoded = _decode(
            batches,
            lambda batch: _results(submit([place.planned for place in batch], files.decode)),
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


class _Files:
    """Images by their number; a bad one is remembered and not read again."""

    def __init__(
        self, images: ImageSet, max_pixels: int, max_side: int | None, levels: Levels
    ) -> None:
        self._images = images
        self._levels = levels
        self._max_side = max_side
        self._max_pixels = max_pixels
        self._bad: dict[int, str] = {}

    def prepare(self, index: int) -> CommonJpeg | Tensor:
        """The encoded image if it is for DALI, else its pixels. Raises BadImage."""
        return self._use(index, self._prepare)

    def decode(self, index: int) -> CommonJpeg | Tensor:
        """The pixels of any image. Raises BadImage."""
        return self._use(index, self._decode)

    def _use(self, index: int, make: Callable[[bytes], CommonJpeg | Tensor]) -> CommonJpeg | Tensor:
        if index in self._bad:
            raise BadImage(self._bad[index])
        try:
            return make(read_image(self._images, index))
        except BadImage as bad:
            self._bad[index] = str(bad)
            raise

    def _prepare(self, encoded: bytes) -> CommonJpeg | Tensor:
        common = common_jpeg(encoded, self._max_pixels)
        if common is None:
            return self._decode(encoded)
        size = (common.height, common.width)
        return common if fitted(*size, self._max_side) == size else self._decode(encoded)

    def _decode(self, encoded: bytes) -> Tensor:
        return decode_image(encoded, self._max_pixels, self._max_side, self._levels)


def _decode(
    batches: Iterator[Batch],
    decode_without_dali: Callable[[Batch], Batch],
    threads: int,
    gpu: torch.device | None,
    largest: int | None,
    hardware_share: float,
) -> Iterator[Decoded]:
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
    # A stream of its own: on the consumer's, decoding would queue behind the training.
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
            decoded = pack(decode_without_dali(failed), None, stream, buffers)
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
            yield pack(in_dali.popleft(), output, stream, buffers)


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
                # The rest is for the GPU, and makes it agree with the CPU.
                hw_decoder_load=hardware_share,
                jpeg_fancy_upsampling=True,
            )
        )
    pipeline.build()
    return pipeline


def _best_share(gpu: torch.device | None) -> float:
    if gpu is None:
        return _HARDWARE_SHARE
    return _HARDWARE_SHARES.get(torch.cuda.get_device_capability(gpu), _HARDWARE_SHARE)


def _results(futures: list[Future[Place]]) -> Batch:
    return [future.result() for future in futures]


def _encode_filler() -> bytes:
    """A small grey JPEG, for a batch without any: DALI takes no empty batch."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(buffer, "JPEG")
    return buffer.getvalue()


def _device_number(gpu: torch.device) -> int:
    return torch.cuda.current_device() if gpu.index is None else gpu.index


def _reason(error: Exception) -> str:
    """The line of DALI's long message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "")
