"""The op alone on a GPU: its time, the bytes it must move, and the resulting bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.bench.timing import launch_milliseconds
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.views import pack as pack_views

_BATCH, _CALLS, _WARM = 256, 50, 5


def time_op(images: Sequence[Tensor], size: int) -> dict[str, Any]:
    """Milliseconds per call, without drawing parameters or moving data.

    GPU times are measured by the GPU's clock while replaying a captured call. Host times are those
    to launch a call, during which the GPU may be idle; to draw the parameters for one call; and to
    check, move and launch it.

    Args:
        images: uint8 ``[H, W, 3]``; repeated to fill a batch of 256.
        size: side of the composed bfloat16 images.
    """
    device = torch.device("cuda")
    batch = pack(images, [i % len(images) for i in range(_BATCH)])
    parameters = sample_parameters(0, 0, batch, size)
    pixels, views = batch.pixels.to(device), pack_views(batch, parameters).to(device)

    def call() -> None:
        torch.ops.cp2fast.copy_paste(
            pixels, views, size, torch.bfloat16, IMAGENET_MEAN, IMAGENET_STD, "cuda"
        )

    there = batch.to(device)
    host, drawing, whole = (
        launch_milliseconds(work, _CALLS, device)
        for work in (
            call,
            lambda: sample_parameters(0, 0, batch, size),
            lambda: copy_paste(there, parameters, size, torch.bfloat16),
        )
    )
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    times = _milliseconds_of_the_gpu(graph.replay)
    moved = _BATCH * bytes_a_sample(images, size, torch.bfloat16)
    return {
        "batch_size": _BATCH,
        "dtype": "bfloat16",
        "milliseconds": median(times),
        "spread": (max(times) - min(times)) / median(times),
        "host_milliseconds": host,
        "host_milliseconds_to_draw": drawing,
        "host_milliseconds_to_check_move_and_launch": whole,
        "bytes": moved,
        "gigabytes_per_second": moved / median(times) / 1e6,
    }


def _milliseconds_of_the_gpu(replay: Callable[[], None]) -> list[float]:
    times = []
    for _ in range(_WARM + _CALLS):
        begin, end = _event(), _event()
        begin.record()
        replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return times[_WARM:]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def bytes_a_sample(images: Sequence[Tensor], size: int, dtype: torch.dtype) -> float:
    """Minimum traffic per sample: each image read once, two composed images and masks written."""
    read = sum(image.numel() for image in images) / len(images)
    return read + 2 * size * size * (3 * dtype.itemsize + 1)


def pack(images: Sequence[Tensor], numbers: Sequence[int]) -> RaggedBatch:
    """A batch of the images with these numbers."""
    return RaggedBatch.pack([images[i] for i in numbers], list(numbers))
