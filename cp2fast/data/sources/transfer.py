"""Move decoded batches to a GPU: gather them in pinned memory and copy them ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers, pinned
from cp2fast.data.prefetch import keep_ahead

_GATHERED_AHEAD = 2
_COPIED_AHEAD = 1
_PARTS = 8
"""Number of tasks that gather a batch."""


def to_gpu(
    batches: Iterator[RaggedBatch], device: torch.device, threads: int
) -> Iterator[RaggedBatch]:
    """The same batches with their pixels on ``device``, for the consumer's CUDA stream.

    The host never waits for a copy. Batches that are already on a GPU are passed on; of one that
    refers to a cache, only its own images are copied, gathered by ``threads``.
    """
    buffers = Buffers(_GATHERED_AHEAD + 2, pinned)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    pool = ThreadPoolExecutor(max(1, threads), "cp2fast-gather")
    try:
        gathering = (gather(batch, buffers, pool) for batch in batches)
        copying = (_copy(done(), stream) for done in keep_ahead(gathering, _GATHERED_AHEAD))
        for copied in keep_ahead(copying, _COPIED_AHEAD):
            consumer = torch.cuda.current_stream(device)
            consumer.wait_event(copied.done)
            copied.batch.pixels.record_stream(consumer)
            yield copied.batch
            # The pinned memory can be reused only after the copy.
            copied.done.synchronize()
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(batches, Generator):
            batches.close()


def gather(
    batch: RaggedBatch, buffers: Buffers, pool: ThreadPoolExecutor
) -> Callable[[], RaggedBatch]:
    """Start copying the images of a batch back to back; call the result to wait for this.

    A batch that contains nothing but its images, or is on a GPU, is not copied.
    """
    sizes = batch.height.long() * batch.width * 3
    total = int(sizes.sum())
    if batch.pixels.is_cuda or len(batch.pixels) == total:
        return lambda: batch
    ends = sizes.cumsum(0)
    packed = replace(batch, pixels=buffers.take(total), offset=ends - sizes)
    source, target = batch.pixels.numpy(), packed.pixels.numpy()
    moves = list(zip(batch.offset.tolist(), packed.offset.tolist(), sizes.tolist(), strict=True))

    def copy(images: slice) -> None:
        for here, there, size in moves[images]:
            target[there : there + size] = source[here : here + size]  # without Python's lock

    bounds = np.linspace(0, len(batch), _PARTS + 1).astype(int).tolist()
    tasks = [pool.submit(copy, slice(*part)) for part in pairwise(bounds)]

    def result() -> RaggedBatch:
        for task in tasks:
            task.result()
        return packed

    return result


class _Copied(NamedTuple):
    batch: RaggedBatch
    done: torch.cuda.Event
    pinned: torch.Tensor
    """Kept alive until the copy is done."""


def _copy(batch: RaggedBatch, stream: torch.cuda.Stream) -> _Copied:
    with torch.cuda.stream(stream):
        pixels = batch.pixels.to(stream.device, non_blocking=True)
        return _Copied(replace(batch, pixels=pixels), stream.record_event(), batch.pixels)
