"""Decoding with NVIDIA DALI, on the CPU or on the GPU.

    plan -> threads: read, look at the header -> DALI: decode -> RaggedBatch
                     `-- decode what is no common JPEG ---------^

DALI decodes plain JPEG, several images at once, and its output is one buffer that becomes the
batch as it is. Everything else (PNG, WebP, CMYK, suspicious JPEG) goes round it by
``decode_image``, so every source gives the same pixels. An image on which DALI fails costs its
pipeline: that batch is decoded round it too, and a new pipeline goes on with the next one.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from cp2fast.batch import RaggedBatch
from cp2fast.data import jpeg
from cp2fast.data.bad_images import BadImages
from cp2fast.data.decode import BadImage, check_jpeg, decode_image, read_image
from cp2fast.data.images import ImageSet
from cp2fast.data.loading import Decoded, Loaded, deliver, load
from cp2fast.errors import UserError

_DEPTH = 2
"""Batches being read ahead, while DALI holds as many of its own."""
_FEWEST_READERS = 4
_MAX_UNEXPLAINED = 3
_HARDWARE_SHARE = 0.9
"""Of the images that the GPU's JPEG engine takes where there is one; CUDA cores take the rest."""

_Place = Loaded[bytes | Tensor]
_Batch = list[_Place]


def open_dali(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    *,
    seed: int,
    threads: int,
    gpu: torch.device | None,
    max_pixels: int,
    bad: BadImages,
) -> Iterator[RaggedBatch]:
    """Batches in the order of ``plan``, where they were decoded.

    Args:
        images: the data set.
        plan: image numbers of each batch, all of one length.
        seed: of the run, for the substitutes of bad images.
        threads: of DALI's decoder; at least one is used.
        gpu: decodes JPEG and holds the batches; None is the CPU.
        max_pixels: larger images are bad.
        bad: where bad images are counted and listed.

    Raises:
        UserError: too many bad images, or DALI fails where nothing is wrong with the images.
    """
    threads = max(1, threads)
    files = _Files(images, max_pixels)
    pool = ThreadPoolExecutor(max(_FEWEST_READERS, threads), "cp2fast-read")

    def submit(
        numbers: Sequence[int], read: Callable[[int], bytes | Tensor]
    ) -> list[Future[_Place]]:
        return [pool.submit(load, number, read, seed, len(images)) for number in numbers]

    try:
        reading = (submit(numbers.tolist(), files.prepare) for numbers in plan)
        batches = (_results(futures) for futures in _ahead(reading, _DEPTH))
        for decoded in _decode(
            batches,
            lambda batch: _results(submit([place.planned for place in batch], files.decode)),
            threads,
            gpu,
        ):
            yield deliver(decoded, images, bad)
    finally:
        pool.shutdown(cancel_futures=True)


class _Files:
    """Images by their number; a bad one is remembered and not read again."""

    def __init__(self, images: ImageSet, max_pixels: int) -> None:
        self._images = images
        self._max_pixels = max_pixels
        self._bad: dict[int, str] = {}

    def prepare(self, index: int) -> bytes | Tensor:
        """The encoded image if it is for DALI, else its pixels. Raises BadImage."""
        return self._use(index, self._prepare)

    def decode(self, index: int) -> bytes | Tensor:
        """The pixels of any image. Raises BadImage."""
        return self._use(index, lambda encoded: decode_image(encoded, self._max_pixels))

    def _use(self, index: int, make: Callable[[bytes], bytes | Tensor]) -> bytes | Tensor:
        if index in self._bad:
            raise BadImage(self._bad[index])
        try:
            return make(read_image(self._images, index))
        except BadImage as bad:
            self._bad[index] = str(bad)
            raise

    def _prepare(self, encoded: bytes) -> bytes | Tensor:
        if encoded.startswith(jpeg.SIGNATURE):
            header = check_jpeg(encoded, self._max_pixels)
            if header.is_common and jpeg.is_intact(encoded, header):
                return encoded
        return decode_image(encoded, self._max_pixels)


def _decode(
    batches: Iterator[_Batch],
    decode_without_dali: Callable[[_Batch], _Batch],
    threads: int,
    gpu: torch.device | None,
) -> Iterator[Decoded]:
    again: deque[_Batch] = deque()
    in_dali: deque[_Batch] = deque()
    filler = _encode_filler()

    def feed() -> list[NDArray[np.uint8]]:
        batch = again.popleft() if again else next(batches)
        in_dali.append(batch)
        encoded = [place.content for place in batch if isinstance(place.content, bytes)]
        return [np.frombuffer(data, np.uint8) for data in encoded or [filler]]

    first = next(batches, None)
    if first is None:
        return
    again.append(first)
    pipeline = _build(feed, len(first), threads, gpu)
    # A stream of its own: on the consumer's, decoding would queue behind the training.
    stream = None if gpu is None else torch.cuda.Stream(gpu)  # type: ignore[no-untyped-call]
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
            pipeline = _build(feed, len(first), threads, gpu)
            decoded = _pack(decode_without_dali(failed), None, stream)
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
            yield _pack(in_dali.popleft(), output, stream)


def _build(
    feed: Callable[[], list[NDArray[np.uint8]]],
    batch_size: int,
    threads: int,
    gpu: torch.device | None,
) -> Any:
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
                adjust_orientation=True,
                # The rest is for the GPU, and makes it agree with the CPU.
                hw_decoder_load=_HARDWARE_SHARE,
                jpeg_fancy_upsampling=True,
            )
        )
    pipeline.build()
    return pipeline


def _pack(batch: _Batch, output: Any, stream: torch.cuda.Stream | None) -> Decoded:
    """DALI's images as they lie in its buffer, then those that were decoded round it.

    Args:
        batch: encoded images are in ``output``, in order.
        output: DALI's TensorList; None if there are no encoded images in ``batch``.
        stream: that ``output`` is bound to; None on the CPU.
    """
    if any(place.content is None for place in batch):
        return Decoded.of(batch, None)
    shapes = [] if output is None else output.shape()
    others = [place.content for place in batch if isinstance(place.content, Tensor)]
    size = sum(height * width * 3 for height, width, _ in shapes)
    in_output, behind_it = _layout(shapes, 0), _layout([image.shape for image in others], size)
    height, width, offset = zip(
        *(next(behind_it if isinstance(p.content, Tensor) else in_output) for p in batch),
        strict=True,
    )
    packed = RaggedBatch(
        pixels=_join(output, size, others, stream),
        offset=torch.tensor(offset, dtype=torch.int64),
        height=torch.tensor(height, dtype=torch.int32),
        width=torch.tensor(width, dtype=torch.int32),
        index=torch.tensor([place.index for place in batch], dtype=torch.int64),
    )
    return Decoded.of(batch, packed if stream is None else _hand_over(packed, stream))


def _layout(shapes: Sequence[Sequence[int]], begin: int) -> Iterator[tuple[int, int, int]]:
    """Height, width and offset of images (HWC) that lie back to back from ``begin``."""
    for height, width, channels in shapes:
        yield height, width, begin
        begin += height * width * channels


def _join(output: Any, size: int, others: list[Tensor], stream: torch.cuda.Stream | None) -> Tensor:
    """One buffer: the ``size`` bytes of DALI's output, then the other images."""
    with torch.cuda.stream(stream):  # None changes nothing
        parts = [_on_device(image.reshape(-1), stream) for image in others]
        if output is not None:
            parts.insert(0, from_dlpack(output.as_reshaped_tensor([size])))
        # On the GPU a copy even of a single part: memory of torch's own can be handed to another
        # stream, and DALI gets its buffer back in the order of this one. The copy is a hundredth
        # of the decoding.
        return parts[0] if stream is None and len(parts) == 1 else torch.cat(parts)


def _hand_over(batch: RaggedBatch, stream: torch.cuda.Stream) -> RaggedBatch:
    """The batch, all on the GPU, for the consumer's stream; the host waits for nothing."""
    consumer = torch.cuda.current_stream(stream.device)
    with torch.cuda.stream(stream):
        batch = RaggedBatch(
            *(_on_device(getattr(batch, field.name), stream) for field in fields(batch))
        )
    consumer.wait_stream(stream)
    for field in fields(batch):  # Else its memory could be given out again while it is read.
        getattr(batch, field.name).record_stream(consumer)
    return batch


def _on_device(tensor: Tensor, stream: torch.cuda.Stream | None) -> Tensor:
    """A copy on the stream's device, where it is not yet; from pinned memory, so without a wait."""
    if stream is None or tensor.is_cuda:
        return tensor
    return tensor.pin_memory().to(stream.device, non_blocking=True)


def _ahead(batches: Iterator[list[Future[_Place]]], depth: int) -> Iterator[list[Future[_Place]]]:
    """The same items, each asked for when ``depth`` more are still to be handed on."""
    started: deque[list[Future[_Place]]] = deque()
    for batch in batches:
        started.append(batch)
        if len(started) > depth:
            yield started.popleft()
    yield from started


def _results(futures: list[Future[_Place]]) -> _Batch:
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
