"""Copy-paste on an NVIDIA GPU: two kernel launches per batch on torch's current stream.

All memory comes from torch's allocator, so a CUDA graph can capture the call after a first call has
loaded the kernels. A launch is prepared once per shape, then takes two calls of cuda-core with
addresses, to keep the host's time short.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from cp2fast.copypaste.cuda.compile import KERNELS, cubins, cuda_core
from cp2fast.copypaste.interface import Composed, Request, empty_outputs
from cp2fast.copypaste.views import KINDS, VIEWS

THREADS = 128
STRIP = 16
"""Rows of a view that are summed by one or two blocks of ``mean_luma``."""
LEAST_TILE = 52
"""Side of a tile of ``compose`` under the widest blur."""


def parts(size: int) -> int:
    """Blocks of ``mean_luma`` per view."""
    return 2 * -(-size // STRIP)


def tiles(size: int) -> int:
    """Blocks of ``compose`` per layer, enough for the smallest tiles."""
    return (-(-size // LEAST_TILE)) ** 2


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
        partial = torch.empty((samples, VIEWS, parts(size)), device=device)
        inputs = pixels.data_ptr(), pixels.numel(), views.data_ptr(), partial.data_ptr()
        addresses = [tensor.data_ptr() for tensor in outputs]
        launch, stream_of, mean_luma, compose = loaded_kernels(device.index)
        stream = stream_of(torch.cuda.current_stream().cuda_stream)
        for_mean, for_compose, sides, kind = _shape(samples, size, dtype)
        launch(stream, for_mean, mean_luma, *inputs, *sides[:2])
        scale_shift = normalisation(tuple(mean), tuple(std))
        launch(stream, for_compose, compose, *inputs, *sides, kind, *addresses, *scale_shift)
    return outputs


@functools.cache
def loaded_kernels(device: int) -> tuple[Any, Any, Any, Any]:
    """cuda-core's ``launch``, its stream constructor, and the two kernels, loaded once."""
    core = cuda_core()
    codes = cubins("sm_{}{}".format(*torch.cuda.get_device_capability(device)))
    mean_luma, compose = (
        core.ObjectCode.from_cubin(codes[kernel]).get_kernel(kernel) for kernel in KERNELS
    )
    stream_of = functools.lru_cache(maxsize=64)(core.Stream.from_handle)
    return core.launch, stream_of, mean_luma, compose


@functools.lru_cache(maxsize=64)
def _shape(samples: int, size: int, dtype: torch.dtype) -> tuple[Any, Any, Any, Any]:
    """Both grids and the kernels' arguments for a shape. cuda-core passes numpy scalars with their
    own type, but an int as 64 bits and a float as a double.
    """  # noqa: D205
    config, layers = cuda_core().LaunchConfig, samples * VIEWS
    sides = tuple(np.int32(side) for side in (size, parts(size), tiles(size)))
    return (
        config(grid=layers * parts(size), block=THREADS),
        config(grid=layers * tiles(size), block=THREADS),
        sides,
        np.int32(KINDS[dtype]),
    )


@functools.lru_cache(maxsize=64)
def normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[np.float32, ...]:
    """For each channel a factor, then a summand, which compute (x - mean) / std."""
    scale = [1 / s for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return tuple(np.float32(x) for x in (*scale, *shift))
