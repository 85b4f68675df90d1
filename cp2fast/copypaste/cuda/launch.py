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
from cp2fast.copypaste.interface import Composed, empty_outputs
from cp2fast.copypaste.views import KINDS, VIEWS

THREADS = 128
STRIP = 16
"""Rows of a view that one or two blocks of ``mean_luma`` sum."""
LEAST_TILE = 52
"""Side of what a block of ``compose`` makes under the widest blur."""


def parts(size: int) -> int:
    """Blocks of ``mean_luma`` for a view."""
    return 2 * -(-size // STRIP)


def tiles(size: int) -> int:
    """Blocks of ``compose`` for a layer: enough for the smallest tiles."""
    return (-(-size // LEAST_TILE)) ** 2


def copy_paste_cuda(
    pixels: Tensor,
    views: Tensor,
    size: int,
    dtype: torch.dtype,
    mean: Sequence[float],
    std: Sequence[float],
) -> Composed:
    """``Implementation`` on a GPU, without waiting for it."""
    device = pixels.device
    if torch.cuda.current_device() != device.index:
        with torch.cuda.device(device):
            return copy_paste_cuda(pixels, views, size, dtype, mean, std)
    samples = len(views)
    outputs = empty_outputs(samples, size, dtype, device)
    if samples:
        partial = torch.empty((samples, VIEWS, parts(size)), device=device)
        inputs = pixels.data_ptr(), pixels.numel(), views.data_ptr(), partial.data_ptr()
        addresses = [tensor.data_ptr() for tensor in outputs]
        launch, stream_of, mean_luma, compose = _kernels(device.index)
        stream = stream_of(torch.cuda.current_stream().cuda_stream)
        for_mean, for_compose, sides, kind = _shape(samples, size, dtype)
        launch(stream, for_mean, mean_luma, *inputs, *sides[:2])
        scale_shift = normalisation(tuple(mean), tuple(std))
        launch(stream, for_compose, compose, *inputs, *sides, kind, *addresses, *scale_shift)
    return outputs


@functools.cache
def _kernels(device: int) -> tuple[Any, Any, Any, Any]:
    """cuda-core's ``launch``, a maker of its streams, and the two kernels, loaded once."""
    core = cuda_core()
    code = cubin("sm_{}{}".format(*torch.cuda.get_device_capability(device)))
    loaded = core.ObjectCode.from_cubin(code)
    stream_of = functools.lru_cache(maxsize=64)(core.Stream.from_handle)
    return core.launch, stream_of, loaded.get_kernel("mean_luma"), loaded.get_kernel("compose")


@functools.lru_cache(maxsize=64)
def _shape(samples: int, size: int, dtype: torch.dtype) -> tuple[Any, Any, Any, Any]:
    """Both grids, and what the kernels are told of the shape. cuda-core takes numpy's types as
    they are, but an int as 64 bits and a float as a double.
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
    """A factor and then a summand of each channel: (x - mean) / std."""
    scale = [1 / s for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return tuple(np.float32(x) for x in (*scale, *shift))
