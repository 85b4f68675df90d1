"""Copy-paste on an NVIDIA GPU: numba-cuda kernels on torch's current stream.

Two launches a batch and one small temporary, all memory from torch's allocator, so that a CUDA
graph can capture the call once the kernels have been compiled by a first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numba import cuda
from torch import Tensor

from cp2fast.copypaste.cpu_output import BFLOAT16, FLOAT16, FLOAT32
from cp2fast.copypaste.cuda_jit import SIMULATED
from cp2fast.copypaste.cuda_kernel import Inputs, Output, compose, mean_luma
from cp2fast.copypaste.cuda_tile import TILE, WARP, WARPS

_KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}
_BLOCK = (WARP, WARPS)


def copy_paste_cuda(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compose every sample's query and key, without waiting for it.

    The arguments are the fields of ``RaggedBatch`` and ``Parameters``: contiguous, on one GPU (in
    numba's simulator: on the CPU), and valid, for nothing is checked here.

    Returns:
        query and key ``[B, 3, S, S]`` channels-last, query mask and key mask bool ``[B, S, S]``.
    """
    samples, device = len(source), pixels.device
    images_BSSX = [
        torch.empty((samples, size, size, 3), dtype=dtype, device=device) for _ in range(2)
    ]
    masks = [torch.empty((samples, size, size), dtype=torch.bool, device=device) for _ in range(2)]
    tiles = -(-size // TILE)
    partial = torch.empty((samples, 4, tiles * tiles, 1), device=device)
    if samples:
        used = pixels, offset, width, source, box, flip, jitter, factor, order, grey, sigma, paste
        inputs, sums = Inputs(*map(_array, used)), _array(partial[..., 0])
        with _launching_on(device) as stream:
            mean_luma[samples * 4 * tiles**2, _BLOCK, stream](inputs, size, tiles, sums)
            for pair in range(2):
                output = _output(images_BSSX[pair], masks[pair], partial)
                compose[samples * tiles**2, _BLOCK, stream](
                    inputs, pair, size, tiles, sums, _KINDS[dtype], output
                )
    query, key = (image.permute(0, 3, 1, 2) for image in images_BSSX)
    return query, key, masks[0], masks[1]


def _output(image_BSSX: Tensor, mask: Tensor, other: Tensor) -> Output:
    """``other`` stands in for the output of the kinds that are not asked for."""
    if image_BSSX.dtype == torch.float32:
        return Output(_array(image_BSSX), _bits(other), _array(mask))
    return Output(_array(other), _bits(image_BSSX), _array(mask))


def _bits(tensor: Tensor) -> Any:
    """16-bit words of a tensor; torch lends neither bfloat16 nor uint16 to numba."""
    return _array(tensor.view(torch.int16)).view(np.uint16)


def _array(tensor: Tensor) -> Any:
    """What a kernel takes for a tensor, of the same memory."""
    if tensor.dtype == torch.bool:
        tensor = tensor.view(torch.uint8)
    return tensor.numpy() if SIMULATED else cuda.as_cuda_array(tensor, sync=False)


@contextmanager
def _launching_on(device: torch.device) -> Iterator[Any]:
    """The device made current, and torch's stream on it as numba knows streams."""
    if SIMULATED:
        yield 0
        return
    with torch.cuda.device(device):
        yield cuda.external_stream(torch.cuda.current_stream().cuda_stream)
