"""How what runs on the CPU is compiled, and kept between processes."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


def jit(function: Callable[..., Any]) -> Any:
    """Compile for the CPU: the GIL released, products and sums fused, no other liberty taken.

    The same machine gives the same bits. Division by zero is IEEE's, as a check would keep the
    loop around it from becoming SIMD. References to arrays are not counted, which took a seventh of
    the time: so a function makes no array, and returns none but those it was given.
    """
    return numba.njit(function, nogil=True, error_model="numpy", fastmath={"contract"}, _nrt=False)


def exact(function: Callable[..., Any]) -> Any:
    """Compile for the CPU: the GIL released, every operation as written, as numpy does it."""
    return numba.njit(function, nogil=True, error_model="numpy")


def keep_compiled(kernel: Any) -> None:
    """Let ``kernel`` be compiled once an installation, or once a process where nothing is writable.

    It is compiled anew when any source changes that it may be made of: its own, and those of its
    package that its own imports.
    """
    sources = sorted(_sources(kernel.__module__, Path(kernel.py_func.__code__.co_filename)))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()

    class Cache(FunctionCache):  # type: ignore[misc]  # numba is untyped
        def _index_key(self, *args: Any) -> tuple[Any, ...]:
            return (*super()._index_key(*args), digest)

    try:
        kernel._cache = Cache(kernel.py_func)
    except RuntimeError:  # no folder can be written, neither beside the source nor the user's
        return


def _sources(module: str, source: Path) -> set[Path]:
    """A module's file, and those of its package that it imports, they import, and so on."""
    root, package = source.parents[module.count(".")], module.split(".")[0]
    found, ahead = set[Path](), [source]
    while ahead:
        file = ahead.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == package:
                folder = root / str(node.module).replace(".", "/")
                files = [folder.with_suffix(".py"), *(folder / f"{a.name}.py" for a in node.names)]
                ahead += [file for file in files if file.is_file()]
    return found
