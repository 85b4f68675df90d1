"""Copy-paste on an NVIDIA GPU: three kernel launches per batch on torch's current stream.

All memory comes from torch's allocator, so a CUDA graph can capture the call after a first call has
loaded the kernels. A launch is prepared once per shape, then takes three calls of cuda-core with
addresses, to keep the host's time short.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch

from cp2fast.copypaste.cuda.compile import KERNELS, cubins, cuda_core
from cp2fast.copypaste.interface import Composed, Request, empty_outputs
from cp2fast.copypaste.views import KINDS, VIEWS

THREADS = 128
PLANNERS, PLAN_BLOCKS = 1024, 32
"""Threads of a block of ``plan``, and its blocks, half of them for each list of work."""
RESIDENT = 5
"""Blocks of either kernel per multiprocessor: as many of ``mean_luma`` as fit on compute capability
9.0. Those that do not fit begin when the work is done, and end at once."""
TILE, WARPS = 16, 4
LEAST_AREA = 20
"""Side of an area of ``compose``, of a heavy view under the widest blur."""


def parts(size: int) -> int:
    """The most items of ``mean_luma`` that a view can have: of one tile per warp."""
    return -(-((-(-size // TILE)) ** 2) // WARPS)


def most_items(size: int) -> int:
    """The most items of either kernel that a view can have: a paste divides both axes in three."""
    return (-(-size // LEAST_AREA) + 2) ** 2


def copy_paste_cuda(request: Request) -> Composed:
    """Compose on a GPU, without waiting for it."""
    pixels, views, size, dtype, mean, std = request
    device = pixels.device
    if torch.cuda.current_device() != device.index:
        with torch.cuda.device(device):
            return copy_paste_cuda(request)
    samples = len(views)
    outputs = empty_outputs(samples, size, dtype, device)
    if samples:
        gpu = loaded_kernels(device.index)
        layers, length, part, side, kind = _shape(samples, size, dtype, gpu.blocks)
        # Two lists of work, then the sums of mean_luma.
        list_words = 8 * int(length)
        scratch = torch.empty(
            list_words + int(layers) * int(part), dtype=torch.int32, device=device
        )
        table, lists = views.data_ptr(), scratch.data_ptr()
        inputs, sums = (pixels.data_ptr(), pixels.numel(), table, lists), lists + 4 * list_words
        addresses = [tensor.data_ptr() for tensor in outputs]
        scale_shift = normalisation(tuple(mean), tuple(std))
        stream = gpu.stream_of(torch.cuda.current_stream().cuda_stream)
        to_plan = table, layers, side, lists, length, gpu.blocks
        to_compose = *inputs, length, sums, part, side, kind, *addresses, *scale_shift
        gpu.launch(stream, gpu.planning, gpu.plan, *to_plan)
        gpu.launch(stream, gpu.working, gpu.mean_luma, *inputs, sums, part, side)
        gpu.launch(stream, gpu.working, gpu.compose, *to_compose)
    return outputs


class Loaded(NamedTuple):
    """The kernels on a GPU, and cuda-core's functions and grids to launch them with."""

    launch: Any  # cuda-core's function
    stream_of: Any  # makes a stream of cuda-core from a handle
    blocks: np.int32  # of ``mean_luma`` and of ``compose``
    planning: Any  # the grid of ``plan``
    working: Any  # the grid of ``mean_luma`` and of ``compose``
    plan: Any
    mean_luma: Any
    compose: Any


@functools.cache
def loaded_kernels(device: int) -> Loaded:
    """The kernels, loaded once per GPU."""
    core = cuda_core()
    codes = cubins("sm_{}{}".format(*torch.cuda.get_device_capability(device)))
    kernels = (core.ObjectCode.from_cubin(codes[kernel]).get_kernel(kernel) for kernel in KERNELS)
    blocks = RESIDENT * torch.cuda.get_device_properties(device).multi_processor_count
    return Loaded(
        core.launch,
        functools.lru_cache(maxsize=64)(core.Stream.from_handle),
        np.int32(blocks),
        core.LaunchConfig(grid=PLAN_BLOCKS, block=PLANNERS),
        core.LaunchConfig(grid=blocks, block=THREADS),
        *kernels,
    )


@functools.lru_cache(maxsize=64)
def _shape(samples: int, size: int, dtype: torch.dtype, blocks: int) -> tuple[np.int32, ...]:
    """The kernels' arguments for a shape. cuda-core passes numpy scalars with their own type, but
    an int as 64 bits and a float as a double.
    """  # noqa: D205
    layers = samples * VIEWS
    length = 1 + layers * most_items(size) + blocks  # a counter, the items, and their ends
    return tuple(map(np.int32, (layers, length, parts(size), size, KINDS[dtype])))


@functools.lru_cache(maxsize=64)
def normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[np.float32, ...]:
    """For each channel a factor, then a summand, which compute (x - mean) / std."""
    scale = [1 / s for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return tuple(np.float32(x) for x in (*scale, *shift))
