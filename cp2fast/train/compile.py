"""Compile the network with ``torch.compile``, or leave it uncompiled where that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cp2fast.errors import is_out_of_memory
from cp2fast.model.cp2 import CP2
from cp2fast.model.segmenter import Segmenter
from cp2fast.train.learner import Learner
from cp2fast.train.precision import autocast

_COMPILATIONS = 128
"""Enough for two encoders at every size from 32 to 2,048 in steps of 32."""
_GRAPHS = "reduce-overhead"
"""The mode of ``torch.compile`` that records CUDA graphs."""
_RUNS_TO_REPLAY = 3
"""A CUDA graph is recorded in the second run and replayed in the third."""

Method = Literal["forward", "embed"]
"""A method that is compiled; both map images to a tensor."""


def compile_encoders(
    learner: Learner[CP2, Any],
    setting: Literal["auto", "on", "off"],
    images_B3SS: Tensor,
    say: Callable[[str], None],
) -> bool:
    """Compile ``embed`` of both encoders of a learner's network; see ``compile_method``.

    On a GPU, the kernels of a batch are recorded as CUDA graphs and launched as one: launching
    those of a small network one by one takes the host longer than the GPU needs to run them. A
    recorded backward pass overwrites the gradients of the one before, so a step must consist of one
    batch. The exchange of gradients between processes is not recorded.
    """
    network = learner.network
    record = (
        learner.device.type == "cuda" and learner.accumulate == 1 and learner.trained is network
    )
    encoders = network.encoder_q, network.encoder_k
    return compile_method(encoders, "embed", setting, images_B3SS, learner.dtype, say, record)


def compile_method(
    modules: Sequence[Segmenter],
    name: Method,
    setting: Literal["auto", "on", "off"],
    images_B3SS: Tensor,
    dtype: torch.dtype,
    say: Callable[[str], None],
    record: bool = False,
) -> bool:
    """Compile a method of some modules and run it as a step does; they keep their state.

    A missing or failing compiler is thus reported, in one line, before the first step. This is
    undone by ``uncompile``.

    Args:
        modules: modules whose method is replaced.
        name: name of the method.
        setting: ``train.compile``; ``auto`` compiles for a GPU.
        images_B3SS: a batch of the shape used in training; its values do not matter.
        dtype: result of ``dtype_of``.
        say: prints a line for the user.
        record: whether to record CUDA graphs, if they work here.

    Returns:
        Whether it is compiled.
    """
    if setting == "off" or (setting == "auto" and images_B3SS.device.type != "cuda"):
        return False
    # Each encoder is compiled for each size of train.resolution; beyond this limit torch would
    # silently run the rest uncompiled.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, _COMPILATIONS)
    if record:
        failure = _compile(modules, name, _GRAPHS, images_B3SS, dtype)
        if failure is None:
            return True
        say(f"CUDA graphs do not work here ({failure}): the host launches each kernel, slower")
    failure = _compile(modules, name, "default", images_B3SS, dtype)
    if failure is not None:
        say(f"torch.compile does not work here ({failure}): training continues without it, slower")
    return failure is None


def uncompile(modules: Iterable[nn.Module]) -> None:
    """Undo ``compile_method``, and give back what it took: CUDA graphs hold all activations.

    Does nothing where none of the modules is compiled.
    """
    compiled = [
        (module, name)
        for module in modules
        if isinstance(module, Segmenter)
        for name in get_args(Method)
        if name in vars(module)
    ]
    if not compiled:
        return
    for module, name in compiled:
        delattr(module, name)  # restores the class's method
    # torch can only forget all code of this process: what else was compiled, a model of the user's
    # own, is compiled again when it is called.
    torch.compiler.reset()
    torch.cuda.empty_cache()


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


def _compile(
    modules: Sequence[Segmenter], name: Method, mode: str, images_B3SS: Tensor, dtype: torch.dtype
) -> str | None:
    """Compile and try; if this fails, the methods are as before, and the reason is returned."""
    for module in modules:
        setattr(module, name, torch.compile(getattr(module, name), dynamic=False, mode=mode))
    try:
        _try(modules, name, images_B3SS, dtype, runs=_RUNS_TO_REPLAY if mode == _GRAPHS else 1)
    except Exception as error:  # a compiler can fail in any way
        if is_out_of_memory(error) and mode != _GRAPHS:
            raise
        failure = next(iter(str(error).strip().splitlines()), type(error).__name__)
    else:
        return None
    uncompile(modules)  # after the error, whose frames hold memory
    return failure


def _try(
    modules: Sequence[Segmenter],
    name: Method,
    images_B3SS: Tensor,
    dtype: torch.dtype,
    runs: int,
) -> None:
    """Run the forward passes, then the backward pass of what is trained; restore all state."""
    before = [[buffer.clone() for buffer in module.buffers()] for module in modules]
    try:
        for _ in range(runs):
            outputs = []
            for module in modules:
                learns = any(parameter.requires_grad for parameter in module.parameters())
                with autocast(dtype, images_B3SS.device), torch.set_grad_enabled(learns):
                    outputs.append(getattr(module, name)(images_B3SS))
            for output in outputs:
                if output.requires_grad:
                    output.sum().backward()
            for module in modules:  # before the next run, which may write to the same memory
                module.zero_grad(set_to_none=True)
    finally:
        for module, buffers in zip(modules, before, strict=True):
            module.zero_grad(set_to_none=True)
            for buffer, value in zip(module.buffers(), buffers, strict=True):
                buffer.copy_(value)
