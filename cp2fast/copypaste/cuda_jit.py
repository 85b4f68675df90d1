"""What the CUDA kernels are compiled with, for a GPU or for numba's simulator of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, cuda

SIMULATED = bool(config.ENABLE_CUDASIM)
"""The simulator (NUMBA_ENABLE_CUDASIM=1) runs every CUDA thread as a thread of Python."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile what a grid of threads runs."""
    return cuda.jit(function)


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
