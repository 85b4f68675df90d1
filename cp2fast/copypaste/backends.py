"""The backends of the op: which there are, which work here, and which ``auto`` takes."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["auto", "reference", "cpu", "cuda"]

Implementation = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def available_backends() -> dict[str, str | None]:
    """Each backend and what is wrong with it here, with the fix; None if it works."""
    return {backend: problem() for backend, problem in _PROBLEMS.items()}


def implementation(backend: str, device: torch.device) -> Implementation:
    """The function behind a backend.

    Args:
        backend: ``auto`` is ``cpu`` on the CPU and, on a GPU, ``cuda`` where it works; where it
            does not, a warning says why, and ``reference`` takes its place.
        device: of the tensors.

    Raises:
        ValueError: no such backend, not for this device, or not working here.
    """
    if backend == "auto":
        backend = _fastest_on(device.type)
    if backend not in _PROBLEMS:
        raise ValueError(f"backend must be auto, reference, cpu or cuda: '{backend}'")
    if backend != "reference" and backend != device.type:
        raise ValueError(f"backend '{backend}' takes tensors on {backend}, not on {device}")
    problem = _PROBLEMS[backend]()
    if problem:
        raise ValueError(f"backend '{backend}': {problem}")
    # Imported here: each brings a library that the others do without.
    if backend == "cpu":
        from cp2fast.copypaste.cpu.launch import copy_paste_cpu

        return copy_paste_cpu
    if backend == "cuda":
        from cp2fast.copypaste.cuda.launch import copy_paste_cuda

        return copy_paste_cuda
    from cp2fast.copypaste.reference import copy_paste_reference

    return copy_paste_reference


@functools.cache
def _fastest_on(device_type: str) -> str:
    """What ``auto`` takes; kept, so that a warning comes once."""
    if device_type == "cpu":
        return "cpu"
    problem = _cuda_problem() if device_type == "cuda" else f"no kernels for '{device_type}'"
    if problem is None:
        return "cuda"
    warnings.warn(f"copy-paste runs its slow reference: {problem}", stacklevel=3)
    return "reference"


def _kornia_problem() -> str | None:
    return None if find_spec("kornia") else "kornia is not installed: pip install kornia"


@functools.cache
def _cuda_problem() -> str | None:
    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU: check the driver with nvidia-smi"
    from cp2fast.copypaste.cuda.compile import LEAST_CAPABILITY, problem

    capability = torch.cuda.get_device_capability()
    if capability < LEAST_CAPABILITY:
        has, needs = (".".join(map(str, pair)) for pair in (capability, LEAST_CAPABILITY))
        return f"the GPU's compute capability is {has}, the kernels need {needs}"
    return problem()


_PROBLEMS: dict[str, Callable[[], str | None]] = {
    "reference": _kornia_problem,
    "cpu": lambda: None,
    "cuda": _cuda_problem,
}
