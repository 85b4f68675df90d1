"""The op from decoded images to composed pairs: ``torch.ops.cp2fast.copy_paste``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cp2fast.batch import CopyPasteBatch, RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.backends import Backend, implementation
from cp2fast.copypaste.interface import Composed, Request, empty_outputs
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.validate import validate
from cp2fast.copypaste.views import pack


def copy_paste(
    batch: RaggedBatch,
    parameters: Parameters,
    size: int,
    dtype: torch.dtype = torch.float32,
    backend: Backend = "auto",
    device: torch.device | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> CopyPasteBatch:
    """Crop, augment and paste: compose the query and the key of every sample.

    Args:
        batch: the images.
        parameters: parameters of the B samples.
        size: as in ``Request``, like dtype, mean and std.
        dtype: dtype of the composed images.
        backend: ``reference`` uses kornia and torch, slow, on any device; ``cpu`` uses numba on all
            cores; ``cuda`` is CUDA C++; ``auto`` takes the fastest that works on the device.
        device: device of the computation; by default that of the pixels.
        mean: mean of each channel in [0, 1], subtracted from the output.
        std: standard deviation of each channel, by which the output is divided.

    Returns:
        Query and key ``[B, 3, S, S]``, channels-last and normalised, and their masks.

    Raises:
        ValueError: an invalid argument; the message names it, and the sample concerned. Inside
            ``torch.compile``, arguments are not checked, and invalid ones read other memory.
    """
    if not torch.compiler.is_compiling():
        validate(batch, parameters, size, dtype, mean, std)
    if device is not None:
        batch = batch.to(device)
    pixels, views = batch.pixels, pack(batch, parameters)
    if pixels.is_cuda:  # From pinned memory, the copy does not block the host.
        views = views.pin_memory().to(pixels.device, non_blocking=True)
    return CopyPasteBatch(
        *torch.ops.cp2fast.copy_paste(pixels, views, size, dtype, mean, std, backend)
    )


@torch.library.custom_op("cp2fast::copy_paste", mutates_args=())
def _copy_paste(
    pixels: Tensor,
    views: Tensor,
    size: int,
    dtype: torch.dtype,
    mean: Sequence[float],
    std: Sequence[float],
    backend: str,
) -> Composed:
    """``Request`` taken apart, as ops of torch take no classes; it is not checked again."""
    pixels, views = pixels.contiguous(), views.contiguous()
    compose = implementation(backend, pixels.device)
    return compose(Request(pixels, views, size, dtype, mean, std))


@_copy_paste.register_fake
def _(pixels: Tensor, views: Tensor, size: int, dtype: torch.dtype, *_: object) -> Composed:
    return empty_outputs(views.shape[0], size, dtype, pixels.device)
