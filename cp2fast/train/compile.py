"""The encoders through ``torch.compile``, or as they are where that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from cp2fast.model.cp2 import CP2
from cp2fast.model.segmenter import Segmenter
from cp2fast.train.precision import autocast

_COMPILATIONS = 128
"""Two encoders at all sizes from 32 to 2,048 in steps of 32."""


def compile_encoders(
    network: CP2,
    setting: Literal["auto", "on", "off"],
    images_B3SS: Tensor,
    dtype: torch.dtype,
    say: Callable[[str], None],
) -> bool:
    """Compile both encoders of ``network`` and try them; weights and buffers stay as they were.

    A compiler that is missing or fails shows itself here, in one line, before the first step.

    Args:
        network: its encoders' ``embed`` is replaced.
        setting: ``train.compile``; ``auto`` compiles for a GPU.
        images_B3SS: a batch as the training will bring them; the values do not matter.
        dtype: of ``dtype_of``.
        say: tells the user.

    Returns:
        Whether the encoders are compiled.
    """
    if setting == "off" or (setting == "auto" and images_B3SS.device.type != "cuda"):
        return False
    # Each encoder and each size of train.resolution is compiled; beyond the limit torch would go on
    # without a word, uncompiled.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, _COMPILATIONS)
    encoders = network.encoder_q, network.encoder_k
    for encoder in encoders:
        encoder.embed = torch.compile(encoder.embed, dynamic=False)  # type: ignore[method-assign]
    try:
        for encoder in encoders:
            _try(encoder, images_B3SS, dtype)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler can fail in any way
        for encoder in encoders:
            del encoder.embed  # the class's own comes back
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        say(f"torch.compile does not work here ({reason}): training goes on without, slower")
        return False
    return True


def _try(encoder: Segmenter, images_B3SS: Tensor, dtype: torch.dtype) -> None:
    """One forward pass, and one backward if the encoder learns, leaving no trace in it."""
    before = [buffer.clone() for buffer in encoder.buffers()]
    learns = any(parameter.requires_grad for parameter in encoder.parameters())
    try:
        with autocast(dtype, images_B3SS.device), torch.set_grad_enabled(learns):
            embedding = encoder.embed(images_B3SS)
        if learns:
            embedding.sum().backward()  # type: ignore[no-untyped-call]
    finally:
        encoder.zero_grad(set_to_none=True)
        for buffer, value in zip(encoder.buffers(), before, strict=True):
            buffer.copy_(value)
