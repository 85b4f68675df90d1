"""How CPU code is compiled and cached between processes."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

_FAST: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "_nrt": False,
}


def jit(function: Callable[..., Any]) -> Any:
    """Compile for the CPU without the GIL, with fused multiply-add but no other fast-math option.

    Results are the same bit for bit on the same machine. Division by zero follows IEEE, because a
    check would prevent SIMD in the surrounding loop. References to arrays are not counted, which
    took a seventh of the time, so a function must not create arrays and may return only those it
    was given.
    """
    return numba.njit(function, **_FAST)


def inline(function: Callable[..., Any]) -> Any:
    """``jit`` into the callers, for functions that are called for every row.

    Each array is passed as seven words, which took a tenth of the time.
    """
    return numba.njit(function, **_FAST, forceinline=True)


def exact(function: Callable[..., Any]) -> Any:
    """Compile for the CPU without the GIL, with every operation as written, as in numpy."""
    return numba.njit(function, nogil=True, error_model="numpy")


def specialised(make: Callable[[int | None], Any], counts: Sequence[int]) -> Any:
    """A function whose loops over a count are unrolled for some counts.

    Args:
        make: compiles a function of a count and other arguments: for the count given here alone,
            which it can then ignore, or for any if it is None.
        counts: counts that get code of their own.

    Returns:
        A function of the count and the other arguments, without result.
    """
    function = make(None)
    for count in counts:
        function = _special(count, make(count), function)
    return function


def _special(count: int, one: Any, rest: Any) -> Any:
    @inline
    def choose(n: int, *arguments: Any) -> None:
        if n == count:
            one(n, *arguments)
        else:
            rest(n, *arguments)

    return choose


def keep_compiled(kernel: Any) -> None:
    """Cache a compiled ``kernel`` on disk; compile once per process where nothing can be written.

    It is compiled again when its source changes, or any source of this package that it imports,
    directly or indirectly, and when what was cached cannot be read.
    """
    sources = sorted(_sources(kernel.__module__, Path(kernel.py_func.__code__.co_filename)))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()

    class Cache(FunctionCache):  # type: ignore[misc]  # numba is untyped
        def _index_key(self, *args: Any) -> tuple[Any, ...]:
            return (*super()._index_key(*args), digest)

        def load_overload(self, *args: Any) -> Any:
            try:
                return super().load_overload(*args)
            except Exception:  # damaged files, as after a crash; unpickling them raises anything
                self._remove_index()
                return None

        def save_overload(self, *args: Any) -> None:
            try:
                super().save_overload(*args)
            except OSError:  # no room; the index may name the file of an older kernel by now
                self._remove_index()

        def _remove_index(self) -> None:
            with suppress(OSError):
                os.unlink(self._cache_file._index_path)

    try:
        kernel._cache = Cache(kernel.py_func)
    except RuntimeError:  # no writable folder, neither beside the source nor in the user's cache
        return


def _sources(module: str, source: Path) -> set[Path]:
    """The file of a module and of the package's modules that it imports, directly or indirectly."""
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
