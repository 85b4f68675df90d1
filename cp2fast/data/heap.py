"""Memory that was freed but is still held by the C library."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any


def return_free_memory() -> None:
    """Give free pages of the heap back to the system, where the C library can (glibc)."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], Any] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
