"""The op alone on a GPU: its time, the bytes it must move, and the bandwidth that this makes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.draw import draw

_BATCH, _CALLS, _WARM = 256, 50, 5


def time_op(images: Sequence[Tensor], size: int) -> dict[str, Any]:
    """Milliseconds of one call by CUDA's own clock, drawing and moving left out.

    Args:
        images: uint8 ``[H, W, 3]``; repeated to a batch of 256.
        size: side of the composed images, which are bfloat16.
    """
    device = torch.device("cuda")
    batch = pack(images, [i % len(images) for i in range(_BATCH)])
    parameters = draw(0, 0, batch, size, "batch")
    there, drawn = batch.to(device), parameters.to(device)
    arguments = [there.pixels, there.offset, there.height, there.width, *vars(drawn).values()]
    times = []
    for call in range(_WARM + _CALLS):
        begin, end = _event(), _event()
        begin.record()
        torch.ops.cp2fast.copy_paste(*arguments, size, torch.bfloat16, "cuda")
        end.record()
        end.synchronize()
        if call >= _WARM:
            times.append(begin.elapsed_time(end))
    moved = _BATCH * bytes_a_sample(images, size, torch.bfloat16)
    return {
        "batch_size": _BATCH,
        "dtype": "bfloat16",
        "milliseconds": median(times),
        "spread": (max(times) - min(times)) / median(times),
        "bytes": moved,
        "gigabytes_per_second": moved / median(times) / 1e6,
    }


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def bytes_a_sample(images: Sequence[Tensor], size: int, dtype: torch.dtype) -> float:
    """What cannot but be moved: each image read once, two composed images and masks written."""
    read = sum(image.numel() for image in images) / len(images)
    return read + 2 * size * size * (3 * dtype.itemsize + 1)


def pack(images: Sequence[Tensor], numbers: Sequence[int]) -> RaggedBatch:
    """The images of these numbers as a batch."""
    return RaggedBatch.pack([images[i] for i in numbers], list(numbers))
