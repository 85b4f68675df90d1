"""Copy-paste on an NVIDIA GPU: two launches a batch on torch's current stream.

All memory comes from torch's allocator, so that a CUDA graph can capture the call once a first one
has loaded the kernels. A launch is prepared once for a shape and from then on is two calls of
cuda-core with addresses, as the host's time counts too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cp2fast.copypaste.cuda.compile import cubin, cuda_core
from cp2fast.copypaste.views import KINDS, VIEWS

THREADS, PLANNERS, PLANS = 128, 1024, 32
"""Of a block, of a block of ``plan``, and its blocks."""
BLOCKS = 5
"""Of each kernel on a multiprocessor, as many as find room on the largest; they share the work."""
TILE, WARPS = 16, 4


def parts(size: int) -> int:
    """Sums of ``mean_luma`` for a view at most: of one tile a warp."""
    return -(-((-(-size // TILE)) ** 2) // WARPS)


def most(size: int) -> int:
    """Items of a view at most: tiles of compose under the widest blur, of a heavy view."""
    return (-(-size // 20)) ** 2


def copy_paste_cuda(
    pixels: Tensor,
    views: Tensor,
    size: int,
    dtype: torch.dtype,
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compose every sample's query and key, without waiting for it.

    Args:
        pixels: uint8 ``[N]``, on the GPU.
        views: int32 ``[B, V, 16]``, the table of ``views.py``: contiguous, beside the pixels, and
            valid, for nothing is checked here.
        size: side S of the output.
        dtype: of the composed images: float32, bfloat16 or float16.
        mean: of each channel.
        std: of each channel.

    Returns:
        query and key ``[B, 3, S, S]`` channels-last, query mask and key mask bool ``[B, S, S]``.
    """
    device = pixels.device
    if torch.cuda.current_device() != device.index:
        with torch.cuda.device(device):
            return copy_paste_cuda(pixels, views, size, dtype, mean, std)
    samples = len(views)
    images = [
        torch.empty(
            (samples, 3, size, size),
            dtype=dtype,
            device=device,
            memory_format=torch.channels_last,
        )
        for _ in range(2)
    ]
    masks = [torch.empty((samples, size, size), dtype=torch.bool, device=device) for _ in range(2)]
    if samples:
        layers = samples * VIEWS
        launch, stream_of, two, all_, blocks, kernels = _kernels(device.index)
        plan, mean_luma, compose = kernels
        n, part, side, kind = _shape(layers, size, dtype)
        length = np.int32(1 + layers * most(size) + blocks)
        # Two lists of work, and sums.
        scratch = torch.empty(
            8 * int(length) + layers * parts(size), dtype=torch.int32, device=device
        )
        lists = scratch.data_ptr()
        stream = stream_of(torch.cuda.current_stream().cuda_stream)
        scale_shift = normalisation(tuple(mean), tuple(std))
        table, inputs = views.data_ptr(), (pixels.data_ptr(), pixels.numel(), views.data_ptr())
        sums = lists + 32 * int(length)
        outputs = [tensor.data_ptr() for tensor in (*images, *masks)]
        launch(stream, two, plan, table, n, side, lists, length, blocks)
        launch(stream, all_, mean_luma, *inputs, lists, sums, part, side)
        to_compose = *inputs, lists, length, sums, part, side, kind, *outputs, *scale_shift
        launch(stream, all_, compose, *to_compose)
    return images[0], images[1], masks[0], masks[1]


@functools.cache
def _kernels(device: int) -> tuple[Any, Any, Any, Any, np.int32, tuple[Any, Any, Any]]:
    """cuda-core's ``launch``, a maker of its streams, the grids, and the kernels, loaded once."""
    core = cuda_core()
    code = cubin("sm_{}{}".format(*torch.cuda.get_device_capability(device)))
    loaded = core.ObjectCode.from_cubin(code)
    stream_of = functools.lru_cache(maxsize=64)(core.Stream.from_handle)
    blocks = BLOCKS * torch.cuda.get_device_properties(device).multi_processor_count
    two = core.LaunchConfig(grid=PLANS, block=PLANNERS)
    all_ = core.LaunchConfig(grid=blocks, block=THREADS)
    plan, mean_luma, compose = map(loaded.get_kernel, ("plan", "mean_luma", "compose"))
    return core.launch, stream_of, two, all_, np.int32(blocks), (plan, mean_luma, compose)


@functools.lru_cache(maxsize=64)
def _shape(layers: int, size: int, dtype: torch.dtype) -> tuple[np.int32, ...]:
    """What the kernels are told of the shape: cuda-core takes a Python int for 64 bits."""
    return tuple(np.int32(number) for number in (layers, parts(size), size, KINDS[dtype]))


@functools.lru_cache(maxsize=64)
def normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[np.float32, ...]:
    """A factor and then a summand of each channel: (x - mean) / std."""
    scale = [1 / s for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return tuple(np.float32(x) for x in (*scale, *shift))
