"""Copy-paste on an NVIDIA GPU: numba-cuda kernels on torch's current stream.

Two launches a batch and one small temporary, all memory from torch's allocator, so that a CUDA
graph can capture the call once the kernels have been compiled by a first one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cp2fast.copypaste.cpu_output import BFLOAT16, FLOAT16, FLOAT32
from cp2fast.copypaste.cuda_kernel import Inputs, compose, mean_luma
from cp2fast.copypaste.cuda_launch import address, launch
from cp2fast.copypaste.cuda_output import Output
from cp2fast.copypaste.cuda_tile import TILE

_KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}


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
    sums = torch.empty((samples, 4, tiles), device=device)
    if samples:
        used = pixels, offset, width, source, box, flip, jitter, factor, order, grey, sigma, paste
        inputs, partial = Inputs(*map(address, used)), address(sums)
        outputs = [_output(*tensors) for tensors in zip(images_BSSX, masks, strict=True)]
        launch(mean_luma, samples * 4 * tiles, device, inputs, size, tiles, partial)
        launch(
            compose,
            samples * 2 * tiles**2,
            device,
            *(inputs, size, tiles, partial, _KINDS[dtype], *outputs),
        )
    query, key = (image.permute(0, 3, 1, 2) for image in images_BSSX)
    return query, key, masks[0], masks[1]


def _output(image_BSSX: Tensor, mask: Tensor) -> Output:
    """Only the one of ``single`` and ``half`` that is of the image's kind will be written."""
    if image_BSSX.dtype == torch.float32:
        single, half = address(image_BSSX), address(mask)
    else:
        single, half = address(mask), address(image_BSSX.view(torch.uint16))
    return Output(single, half, address(mask))
