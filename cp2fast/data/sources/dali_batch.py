"""DALI's output and the images decoded without DALI, as one RaggedBatch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers
from cp2fast.data.decoding.decode import CommonJpeg
from cp2fast.data.decoding.orientation import UPRIGHT, orient_batch
from cp2fast.data.sources.loading import Decoded, Loaded

Place: TypeAlias = Loaded[CommonJpeg | Tensor]
"""An image for DALI, or one that was decoded without it."""
Batch: TypeAlias = list[Place]


def assemble(
    batch: Batch, output: Any, stream: torch.cuda.Stream | None, buffers: Buffers
) -> Decoded:
    """DALI's images in the order of its buffer, then those decoded without DALI.

    Args:
        batch: its encoded images are in ``output``, in order.
        output: DALI's TensorList; None if nothing in ``batch`` is encoded.
        stream: that ``output`` is bound to; None on the CPU.
        buffers: memory for the batch on the CPU.
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
        pixels=_join(output, size, others, stream, buffers),
        offset=torch.tensor(offset, dtype=torch.int64),
        height=torch.tensor(height, dtype=torch.int32),
        width=torch.tensor(width, dtype=torch.int32),
        index=torch.tensor([place.index for place in batch], dtype=torch.int64),
    )
    turns = [p.content.orientation if isinstance(p.content, CommonJpeg) else UPRIGHT for p in batch]
    with torch.cuda.stream(stream):  # None changes nothing
        packed = orient_batch(packed, turns)
    return Decoded.of(batch, packed if stream is None else _hand_over(packed, stream))


def _layout(shapes: Sequence[Sequence[int]], begin: int) -> Iterator[tuple[int, int, int]]:
    """Height, width and offset of images (HWC) that lie back to back from ``begin``."""
    for height, width, channels in shapes:
        yield height, width, begin
        begin += height * width * channels


def _join(
    output: Any,
    size: int,
    others: list[Tensor],
    stream: torch.cuda.Stream | None,
    buffers: Buffers,
) -> Tensor:
    """Copy the ``size`` bytes of DALI's output, then the other images, into one buffer.

    The copy costs a hundredth of the decoding. On the CPU, it lets DALI reuse its buffer; on the
    GPU, torch's own memory can be handed to another stream.
    """
    with torch.cuda.stream(stream):  # None changes nothing
        parts = [_on_device(image.reshape(-1), stream) for image in others]
        if output is not None:
            parts.insert(0, from_dlpack(output.as_reshaped_tensor([size])))
        if stream is not None:
            return torch.cat(parts)
        return torch.cat(parts, out=buffers.take(sum(len(part) for part in parts)))


def _hand_over(batch: RaggedBatch, stream: torch.cuda.Stream) -> RaggedBatch:
    """Hand a batch on the GPU to the consumer's stream, without blocking the host."""
    consumer = torch.cuda.current_stream(stream.device)
    with torch.cuda.stream(stream):
        batch = replace(batch, pixels=_on_device(batch.pixels, stream))
    consumer.wait_stream(stream)
    # Otherwise the allocator could reuse the memory while it is still being read.
    batch.pixels.record_stream(consumer)
    return batch


def _on_device(tensor: Tensor, stream: torch.cuda.Stream | None) -> Tensor:
    """Copy to the stream's device if it is not there yet; from pinned memory, without waiting."""
    if stream is None or tensor.is_cuda:
        return tensor
    return tensor.pin_memory().to(stream.device, non_blocking=True)
