"""The C library's heaps, kept from growing by images of ever other sizes.

A hole that an image leaves is too small for the next larger one, so a heap grows for many epochs;
and there are several a process, for its threads. Only glibc is told; elsewhere these functions do
nothing.
"""

from __future__ import annotations

import ctypes

_C = ctypes.CDLL(None)
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h>
_IMAGE_BYTES = 1 << 20
_ARENAS = 2


def bypass_heap() -> None:
    """From now on memory of an image's size is the system's, and returns there when it is freed.

    For a process that only decodes: each image then costs fresh pages.
    """
    if hasattr(_C, "mallopt"):
        _C.mallopt(_M_MMAP_THRESHOLD, _IMAGE_BYTES)


def share_heaps() -> None:
    """From now on new threads share few heaps."""
    if hasattr(_C, "mallopt"):
        _C.mallopt(_M_ARENA_MAX, _ARENAS)


def trim_heaps() -> None:
    """Give what is free in all heaps of the process back to the system."""
    if hasattr(_C, "malloc_trim"):
        _C.malloc_trim(0)
