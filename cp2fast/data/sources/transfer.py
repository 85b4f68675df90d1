"""Move decoded batches to a GPU: gather them in pinned memory and copy them ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

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

    The host never waits for a copy. Batches that are already on a GPU are passed on.

    Args:
        batches: most are in pinned memory; of a batch that refers to a cache, only its own images
            are copied.
        device: a GPU.
        threads: number of threads that gather images from a cache.
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
    here, there = batch.offset.numpy(), packed.offset.numpy()
    copy, bounds = _copier(), np.linspace(0, len(batch), _PARTS + 1).astype(int).tolist()
    tasks: list[Future[Any]] = [
        pool.submit(
            copy,
            batch.pixels.numpy(),
            here[begin:end],
            sizes.numpy()[begin:end],
            packed.pixels.numpy(),
            there[begin:end],
        )
        for begin, end in pairwise(bounds)
    ]

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


@cache
def _copier() -> Callable[..., None]:
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def copy(
        source: NDArray[np.uint8],
        here: NDArray[np.int64],
        sizes: NDArray[np.int64],
        target: NDArray[np.uint8],
        there: NDArray[np.int64],
    ) -> None:
        for image in range(len(sizes)):
            size = sizes[image]
            target[there[image] : there[image] + size] = source[here[image] : here[image] + size]

    compiled: Callable[..., None] = copy
    return compiled
