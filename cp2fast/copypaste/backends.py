"""The backends of the op: which there are, which work here, and which ``auto`` takes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["auto", "reference", "cpu", "cuda"]

Implementation = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def available_backends() -> dict[str, str | None]:
    """Each backend and what is wrong with it here, with the fix; None if it works."""
    return {"reference": _kornia_problem(), "cpu": None, "cuda": _cuda_problem()}


def implementation(backend: str, device: torch.device) -> Implementation:
    """The function behind a backend.

    Args:
        backend: ``auto`` is ``cpu`` on the CPU and, on a GPU, ``cuda`` where it works.
        device: of the tensors.

    Raises:
        ValueError: no such backend, not for this device, or not working here.
    """
    if backend == "auto":
        on_cuda = device.type == "cuda" and _cuda_problem() is None
        backend = "cpu" if device.type == "cpu" else "cuda" if on_cuda else "reference"
    if backend not in ("reference", "cpu", "cuda"):
        raise ValueError(f"backend must be auto, reference, cpu or cuda: '{backend}'")
    if backend != "reference" and backend != device.type:
        raise ValueError(f"backend '{backend}' takes tensors on {backend}, not on {device}")
    problem = available_backends()[backend]
    if problem:
        raise ValueError(f"backend '{backend}': {problem}")
    # Imported here: each brings a library that the others do without.
    if backend == "cpu":
        from cp2fast.copypaste.cpu import copy_paste_cpu

        return copy_paste_cpu
    if backend == "cuda":
        from cp2fast.copypaste.cuda import copy_paste_cuda

        return copy_paste_cuda
    from cp2fast.copypaste.reference import copy_paste_reference

    return copy_paste_reference


def _kornia_problem() -> str | None:
    return None if find_spec("kornia") else "kornia is not installed: pip install kornia"


def _cuda_problem() -> str | None:
    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU: check the driver with nvidia-smi"
    from numba import cuda

    if not cuda.is_available():
        return "numba finds no CUDA driver or toolkit: pip install 'numba-cuda[cu13]'"
    return None
