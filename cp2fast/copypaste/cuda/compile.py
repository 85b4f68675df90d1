"""Compile ``copy_paste.cu`` with NVRTC through cuda-core, once per card, and cache it on disk.

Of 1.3 seconds of one core, ``compose`` takes half, so each kernel is compiled by itself, in a
thread of its own.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch  # loads NVRTC into the process, so it must come before cuda-core

from cp2fast.run_folder import atomic_write

SOURCE = Path(__file__).with_name("copy_paste.cu")
KERNELS = "plan", "mean_luma", "compose"
LEAST_CAPABILITY = 8, 0
"""Ampere introduced asynchronous copies and products of 16 x 8 x 16 float16 matrices."""

_DIGEST = hashlib.sha256().digest_size


def cuda_core() -> Any:
    """The module of cuda-core, which was named ``cuda.core.experimental`` before version 1.

    Raises:
        ImportError: it is not installed, or cannot find its dependencies.
    """
    module = importlib.import_module("cuda.core")
    if not hasattr(module, "Program"):
        module = importlib.import_module("cuda.core.experimental")
    return module


def problem() -> str | None:
    """Why the kernels cannot be compiled here, with the fix; None if they can.

    The caller must check whether there is a GPU.
    """
    major = str(torch.version.cuda or "13").partition(".")[0]
    try:
        cuda_core()
        importlib.import_module("cuda.bindings.nvrtc")
    except ImportError:
        return f"cuda-core is not installed: pip install 'cuda-core[cu{major}]'"
    try:
        _nvrtc_version()
    except RuntimeError:  # from cuda-pathfinder, which searches for the library
        package = "nvidia-cuda-nvrtc-cu12" if major == "12" else "nvidia-cuda-nvrtc"
        return f"NVRTC, CUDA's compiler, is not there: pip install {package}"
    return None


def compile_kernel(
    kernel: str,
    arch: str,
    options: Iterable[str] = (),
    logs: Any = None,
    macros: Iterable[str | tuple[str, str]] = (),
) -> bytes:
    """Compile one kernel for one architecture, which may differ from this machine's.

    Args:
        kernel: one of ``KERNELS``.
        arch: for example ``sm_90``.
        options: options for ptxas.
        logs: object with a method ``write``, for the compiler's output.
        macros: names to define, with or without a value.

    Returns:
        The cubin.
    """
    core = cuda_core()
    chosen = core.ProgramOptions(
        arch=arch,
        std="c++17",
        include_path=str(SOURCE.parent),
        ptxas_options=list(options) or None,
        define_macro=[f"WITH_{kernel.upper()}", *macros],
    )
    program = core.Program(SOURCE.read_text(), "c++", chosen)
    return bytes(program.compile("cubin", logs=logs).code)


def cubins(
    arch: str,
    folders: Iterable[Path] | None = None,
    build: Callable[[str, str], bytes] = compile_kernel,
    made_with: str | None = None,
    source: Path = SOURCE,
    options: Path = Path(__file__),
) -> dict[str, bytes]:
    """The compiled kernels by name: intact ones from the disk cache, the others built and cached.

    Args:
        arch: for example ``sm_90``.
        folders: cache folders, of which the first writable one is used; by default beside the
            source, else in the user's cache, as numba does for the CPU kernels.
        build: compiles a kernel for an architecture.
        made_with: names what ``build`` compiles with; by default cuda-core's and NVRTC's versions.
        source: file of the kernels; all CUDA files beside it belong to it.
        options: file with the compiler's options.
    """
    if made_with is None:
        made_with = repr((version("cuda-core"), _nvrtc_version()))
    digest = hashlib.sha256(repr((arch, made_with)).encode())
    for file in (options, *sorted(source.parent.glob("*.cu*"))):
        digest.update(file.read_bytes())
    key, places = digest.hexdigest()[:16], list(_folders() if folders is None else folders)

    def one(kernel: str) -> bytes:
        name = f"{kernel}-{key}.{arch}.cubin"
        for folder in places:
            if (kept := _read(folder / name)) is not None:
                return kept
        code = build(kernel, arch)
        for folder in places:
            if _write(folder / name, code):
                break
        return code

    with ThreadPoolExecutor(len(KERNELS)) as threads:
        return dict(zip(KERNELS, threads.map(one, KERNELS), strict=True))


def _nvrtc_version() -> tuple[int, ...]:
    nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    return tuple(int(part) for part in nvrtc.nvrtcVersion())


def _folders() -> list[Path]:
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [SOURCE.with_name("__pycache__"), Path(user) / "cp2fast"]


def _read(file: Path) -> bytes | None:
    """The content of a file from ``_write``; None if it is missing or incomplete."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST], content[_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(file: Path, code: bytes) -> bool:
    """Write the code and its digest atomically; returns False if the folder is read-only."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as out:
            out.write(hashlib.sha256(code).digest() + code)
    except OSError:
        return False
    return True
