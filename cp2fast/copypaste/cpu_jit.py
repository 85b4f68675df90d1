"""How the CPU kernel is compiled, and kept between processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


def jit(function: Callable[..., Any]) -> Any:
    """Compile for the CPU: the GIL released, products and sums fused, no other liberty taken.

    The same machine gives the same bits. Division by zero is IEEE's, as a check would keep the
    loop around it from becoming SIMD.
    """
    return numba.njit(function, nogil=True, error_model="numpy", fastmath={"contract"})


def keep_compiled(kernel: Any, sources: Iterable[str]) -> None:
    """Let ``kernel`` be compiled once an installation, or once a process where nothing is writable.

    Numba itself recompiles when the kernel's own file changes; ``sources`` are the paths of the
    others that it is made of.
    """
    digest = hashlib.sha256(b"".join(Path(source).read_bytes() for source in sources)).hexdigest()

    class Cache(FunctionCache):  # type: ignore[misc]  # numba is untyped
        def _index_key(self, *args: Any) -> tuple[Any, ...]:
            return (*super()._index_key(*args), digest)

    try:
        kernel._cache = Cache(kernel.py_func)
    except RuntimeError:  # no folder can be written, neither beside the source nor the user's
        return
