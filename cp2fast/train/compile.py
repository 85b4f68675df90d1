"""Compile the network with ``torch.compile``, or leave it uncompiled where that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from cp2fast.model.cp2 import CP2
from cp2fast.train.precision import autocast

_COMPILATIONS = 128
"""Enough for two encoders at every size from 32 to 2,048 in steps of 32."""


def compile_encoders(
    network: CP2,
    setting: Literal["auto", "on", "off"],
    images_B3SS: Tensor,
    dtype: torch.dtype,
    say: Callable[[str], None],
) -> bool:
    """Compile ``embed`` of both encoders of ``network``; see ``compile_method``."""
    encoders = network.encoder_q, network.encoder_k
    return compile_method(encoders, "embed", setting, images_B3SS, dtype, say)


def compile_method(
    modules: Sequence[nn.Module],
    name: str,
    setting: Literal["auto", "on", "off"],
    images_B3SS: Tensor,
    dtype: torch.dtype,
    say: Callable[[str], None],
) -> bool:
    """Compile a method of some modules and run it once; weights and buffers are unchanged.

    A missing or failing compiler is thus reported, in one line, before the first step.

    Args:
        modules: modules whose method is replaced.
        name: name of the method, which maps images to a tensor.
        setting: ``train.compile``; ``auto`` compiles for a GPU.
        images_B3SS: a batch of the shape used in training; its values do not matter.
        dtype: result of ``dtype_of``.
        say: prints a line for the user.

    Returns:
        Whether it is compiled.
    """
    if setting == "off" or (setting == "auto" and images_B3SS.device.type != "cuda"):
        return False
    # Each encoder is compiled for each size of train.resolution; beyond this limit torch would
    # silently run the rest uncompiled.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, _COMPILATIONS)
    for module in modules:
        setattr(module, name, torch.compile(getattr(module, name), dynamic=False))
    try:
        for module in modules:
            _try(module, name, images_B3SS, dtype)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler can fail in any way
        for module in modules:
            delattr(module, name)  # restores the class's method
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        say(f"torch.compile does not work here ({reason}): training continues without it, slower")
        return False
    return True


def blank_images(batch_size: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A batch of the form that the network gets in training: ``[B, 3, S, S]``, channels-last."""
    images_B3SS = torch.zeros(batch_size, 3, size, size, dtype=dtype, device=device)
    return images_B3SS.contiguous(memory_format=torch.channels_last)


def uncompiled() -> AbstractContextManager[object]:
    """A context without compiled code, which would be compiled anew for each image size."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import takes seconds
        return nullcontext()
    eager: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return eager


def _try(module: nn.Module, name: str, images_B3SS: Tensor, dtype: torch.dtype) -> None:
    """Run a forward pass, and a backward pass if the module is trained; restore its state."""
    before = [buffer.clone() for buffer in module.buffers()]
    learns = any(parameter.requires_grad for parameter in module.parameters())
    try:
        with autocast(dtype, images_B3SS.device), torch.set_grad_enabled(learns):
            output = getattr(module, name)(images_B3SS)
        if learns:
            output.sum().backward()
    finally:
        module.zero_grad(set_to_none=True)
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
