"""The backends of the op: which exist, which work here, and which one ``auto`` chooses."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import torch

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.interface import Implementation, Request
from cp2fast.copypaste.views import HEIGHT, PASTE, PITCH, VIEWS, WIDTH, WORDS
from cp2fast.errors import UserError, is_out_of_memory

Backend = Literal["auto", "reference", "cpu", "cuda"]


def available_backends() -> dict[str, str | None]:
    """Each backend and what it is missing here, with the fix; None if nothing is missing."""
    return {backend: problem() for backend, problem in _PROBLEMS.items()}


def implementation(backend: str, device: torch.device) -> Implementation:
    """The function that implements a backend.

    Args:
        backend: name; ``auto`` is the result of ``fastest_backend``.
        device: device of the tensors.

    Raises:
        ValueError: no such backend, or it is not for this device or does not work here.
        UserError: the backend is ``auto``, and none works.
    """
    if backend == "auto":
        backend = fastest_backend(device.type)
    if backend not in _PROBLEMS:
        raise ValueError(f"backend must be auto, reference, cpu or cuda: '{backend}'")
    if backend != "reference" and backend != device.type:
        raise ValueError(f"backend '{backend}' takes tensors on {backend}, not on {device}")
    problem = _PROBLEMS[backend]()
    if problem:
        raise ValueError(f"backend '{backend}': {problem}")
    return _function(backend)


@functools.cache
def fastest_backend(device_type: str) -> str:
    """The choice of ``auto``: the device's kernels if they compile and run, else the reference.

    If that is not the fastest backend, this is logged once.

    Raises:
        UserError: none works.
    """
    return first_that_works(device_type, lambda backend: _problem(backend) or failure(backend))


def first_that_works(device_type: str, wrong_with: Callable[[str], str | None]) -> str:
    """The device's own backend or else the reference, by what is wrong with each.

    Raises:
        UserError: something is wrong with both.
    """
    wrong: dict[str, str] = {}
    for backend in (device_type, "reference"):
        problem = wrong_with(backend)
        if problem is None:
            for other, why in wrong.items():
                _logger.warning("copy-paste runs its slow %s: %s: %s", backend, other, why)
            return backend
        wrong[backend] = problem
    raise UserError(
        f"no copy-paste works on {device_type}: "
        + "; ".join(f"{backend}: {why}" for backend, why in wrong.items())
    )


@functools.cache
def failure(backend: str) -> str | None:
    """Try a backend by composing a small pair; returns the error with its fix, or None.

    This also compiles its kernels. The reference is assumed to work.
    """
    if backend == "reference":
        return None
    return try_out(_function(backend), torch.device(backend), _COMPILER[backend])


def try_out(compose: Implementation, device: torch.device, compiler: str) -> str | None:
    """The error in composing a small pair, with the package to upgrade; None if there is none.

    Raises:
        torch.OutOfMemoryError: memory ran out, by whichever library's error.
    """
    side = 4
    views = torch.zeros(1, VIEWS, WORDS, dtype=torch.int32)
    views[..., PITCH] = 3 * side
    views[..., HEIGHT : WIDTH + 1] = side
    views[..., PASTE + 2 : PASTE + 4] = side
    pixels = torch.zeros(3 * side**2, dtype=torch.uint8)
    try:
        images = pixels.to(device), views.to(device)
        composed = compose(Request(*images, side, torch.float32, IMAGENET_MEAN, IMAGENET_STD))
        composed[0].cpu()  # waits for all work on the device
    except Exception as error:  # any error of the compiler, the driver or the device
        if is_out_of_memory(error):  # others use the device too; the kernels are not at fault
            raise torch.OutOfMemoryError(str(error)) from error
        lines = str(error).strip().splitlines() or [""]
        why = f"{type(error).__name__}: {lines[0]}".rstrip(": ")
        return f"its kernels fail here ({why}): pip install --upgrade {compiler}"
    return None


def _function(backend: str) -> Implementation:
    # Imported here, because each backend needs a library that the others do not.
    if backend == "cpu":
        from cp2fast.copypaste.cpu.launch import copy_paste_cpu

        return copy_paste_cpu
    if backend == "cuda":
        from cp2fast.copypaste.cuda.launch import copy_paste_cuda

        return copy_paste_cuda
    from cp2fast.copypaste.reference import copy_paste_reference

    return copy_paste_reference


def _problem(backend: str) -> str | None:
    return _PROBLEMS[backend]() if backend in _PROBLEMS else "there are no kernels for it"


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


_logger = logging.getLogger(__name__)
_COMPILER = {"cpu": "numba", "cuda": "cuda-core"}
_PROBLEMS: dict[str, Callable[[], str | None]] = {
    "reference": _kornia_problem,
    "cpu": lambda: None,
    "cuda": _cuda_problem,
}
