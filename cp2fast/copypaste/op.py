"""One op from decoded images to composed pairs: ``torch.ops.cp2fast.copy_paste``."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from cp2fast.batch import CopyPasteBatch, RaggedBatch
from cp2fast.copypaste.backends import Backend, implementation
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.validate import validate


def copy_paste(
    batch: RaggedBatch,
    parameters: Parameters,
    size: int,
    dtype: torch.dtype = torch.float32,
    backend: Backend = "auto",
    device: torch.device | None = None,
) -> CopyPasteBatch:
    """Cut, augment and paste: the composed query and key of every sample.

    Args:
        batch: the images.
        parameters: of B samples.
        size: side S of the output in pixels.
        dtype: of the composed images: float32, bfloat16 or float16.
        backend: ``reference`` is kornia and torch, slow, anywhere; ``cpu`` is numba on all cores;
            ``cuda`` is numba-cuda; ``auto`` takes the fastest that works on the device.
        device: where the work is done; by default where the batch is. What comes from the CPU is
            checked there, before it is moved.

    Returns:
        query and key ``[B, 3, S, S]``, channels-last and ImageNet-normalised, and their masks.

    Raises:
        ValueError: naming the argument, and the sample where it is wrong.
    """
    if not torch.compiler.is_compiling():
        validate(batch, parameters, size, dtype)
    if device is not None:
        batch = batch.to(device)
    parameters = parameters.to(batch.pixels.device)
    return CopyPasteBatch(
        *torch.ops.cp2fast.copy_paste(
            batch.pixels,
            batch.offset,
            batch.height,
            batch.width,
            *(getattr(parameters, field.name) for field in fields(parameters)),
            size,
            dtype,
            backend,
        )
    )


@torch.library.custom_op("cp2fast::copy_paste", mutates_args=())
def _copy_paste(
    pixels: Tensor,
    offset: Tensor,
    height: Tensor,
    width: Tensor,
    source: Tensor,
    box: Tensor,
    flip: Tensor,
    jitter: Tensor,
    factor: Tensor,
    order: Tensor,
    grey: Tensor,
    sigma: Tensor,
    paste: Tensor,
    size: int,
    dtype: torch.dtype,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tensors = [
        tensor.contiguous()
        for tensor in (
            *(pixels, offset, height, width),
            *(source, box, flip, jitter, factor, order, grey, sigma, paste),
        )
    ]
    return implementation(backend, pixels.device)(*tensors, size, dtype)


@_copy_paste.register_fake
def _(
    pixels: Tensor,
    offset: Tensor,
    height: Tensor,
    width: Tensor,
    source: Tensor,
    box: Tensor,
    flip: Tensor,
    jitter: Tensor,
    factor: Tensor,
    order: Tensor,
    grey: Tensor,
    sigma: Tensor,
    paste: Tensor,
    size: int,
    dtype: torch.dtype,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    samples = source.shape[0]
    query = torch.empty(
        (samples, 3, size, size),
        dtype=dtype,
        device=pixels.device,
        memory_format=torch.channels_last,
    )
    mask = pixels.new_empty((samples, size, size), dtype=torch.bool)
    return query, torch.empty_like(query), mask, torch.empty_like(mask)
