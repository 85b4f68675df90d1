"""Launches of the CUDA kernels on torch's current stream.

A kernel takes addresses and whole numbers alone, so a launch is one call of cuda-core: numba, which
has compiled it, would look at every tensor again, for longer than the kernel runs.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import torch
from numba import cuda
from torch import Tensor

from cp2fast.copypaste.cuda_jit import SIMULATED, WARP, WARPS, Kernel, to_ptx


def address(tensor: Tensor) -> Any:
    """What a kernel takes for a contiguous tensor."""
    return tensor.view(-1).numpy() if SIMULATED else tensor.data_ptr()


def launch(kernel: Kernel, blocks: int, device: torch.device, *arguments: Any) -> None:
    """Run ``blocks`` blocks of a kernel on torch's current stream of a device.

    Args:
        kernel: compiled when it first meets a device of its kind.
        blocks: of WARPS x WARP threads.
        device: where the tensors are.
        arguments: ``address`` of tensors, integers, and flat tuples of either.
    """
    if SIMULATED:
        cuda.jit(kernel.body)[blocks, (WARP, WARPS)](*arguments)
        return
    from cuda.core import LaunchConfig, Stream  # type: ignore[import-untyped]
    from cuda.core import launch as launch_kernel

    flat = [x for item in arguments for x in (item if isinstance(item, tuple) else (item,))]
    with torch.cuda.device(device):
        stream = Stream.from_handle(torch.cuda.current_stream().cuda_stream)
        loaded = load(kernel, torch.cuda.get_device_capability())
        launch_kernel(stream, LaunchConfig(grid=blocks, block=(WARP, WARPS)), loaded, *flat)


@functools.cache
def load(kernel: Kernel, capability: tuple[int, int]) -> Any:
    """Compile and load a kernel, once for all GPUs of a compute capability (major, minor)."""
    from cuda.core import Program, ProgramOptions

    ptx = to_ptx(kernel, capability)
    (name,) = re.findall(r"\.entry (\w+)", ptx)
    program = Program(ptx, "ptx", ProgramOptions(arch="sm_{}{}".format(*capability)))
    return program.compile("cubin").get_kernel(name)
