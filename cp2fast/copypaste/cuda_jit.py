"""What the CUDA kernels are compiled with, for a GPU or for numba's simulator of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import config, cuda, types

SIMULATED = bool(config.ENABLE_CUDASIM)
"""The simulator (NUMBA_ENABLE_CUDASIM=1) runs every CUDA thread as a thread of Python."""

# The simulator takes a second for a thousand pixels: there, small blocks make small views tell.
WARP, WARPS = (4, 2) if SIMULATED else (32, 8)
"""Threads of a warp; warps of a block."""
RESIDENTS = 4
"""Blocks that share a multiprocessor: bounds a thread to 64 registers, which no kernel exceeds."""

INTEGER = types.int64
BYTES, WORDS, INTEGERS, LONGS, FLOATS = (
    types.CPointer(t) for t in (types.uint8, types.uint16, types.int32, types.int64, types.float32)
)
"""A kernel takes a tensor as the address of its first element; in the simulator, a flat array."""


@dataclass(frozen=True)
class Kernel:
    """What a grid of blocks of WARPS x WARP threads runs.

    Attributes:
        body: a function of Python for numba.
        signature: numba's types of its arguments.
    """

    body: Callable[..., None]
    signature: tuple[Any, ...]


def to_ptx(kernel: Kernel, capability: tuple[int, int]) -> str:
    """Compile a kernel for a GPU's compute capability; needs no GPU."""
    ptx: str = cuda.compile(
        kernel.body,
        types.void(*kernel.signature),
        device=False,
        abi="numba",
        cc=capability,
        launch_bounds=(WARP * WARPS, RESIDENTS),
    )[0]
    return ptx


def device(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call."""
    return cuda.jit(function, device=True)


@device
def sync_warp() -> None:
    """Wait for the other threads of the warp; the simulator knows only those of the block."""
    if SIMULATED:
        cuda.syncthreads()
    else:
        cuda.syncwarp()


if SIMULATED:

    def float_bits(value: Any) -> int:
        """The bits of a float32, as a signed integer."""
        return int(np.float32(value).view(np.int32))

else:

    @device
    def float_bits(value: Any) -> Any:
        """The bits of a float32, as a signed integer."""
        return cuda.libdevice.float_as_int(value)
