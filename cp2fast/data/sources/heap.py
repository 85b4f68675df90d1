"""Keep glibc's heaps from growing when image sizes vary.

The hole that a freed image leaves is too small for the next larger one, so a heap keeps growing for
many epochs, and a process has several heaps for its threads. With another C library these functions
do nothing.
"""

from __future__ import annotations

import ctypes

_C = ctypes.CDLL(None)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
_IMAGE_BYTES = 1 << 20
_ARENAS = 2
_LARGEST_THRESHOLD = 32 << 20
"""glibc's DEFAULT_MMAP_THRESHOLD_MAX on 64 bits."""


def bypass_heap() -> None:
    """Allocate image-sized blocks with mmap, so that freeing them returns the memory at once.

    For processes that only decode: each image then costs fresh pages.
    """
    _set(_M_MMAP_THRESHOLD, _IMAGE_BYTES)


def keep_heaps() -> None:
    """Keep freed memory for the next encoded images instead of giving it back, page by page.

    glibc itself arrives at these thresholds once a large block was freed.
    """
    _set(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
    _set(_M_TRIM_THRESHOLD, 2 * _LARGEST_THRESHOLD)


def share_heaps() -> None:
    """Let new threads share a small number of heaps."""
    _set(_M_ARENA_MAX, _ARENAS)


def trim_heaps() -> None:
    """Return the free memory in all heaps of this process to the system."""
    if hasattr(_C, "malloc_trim"):
        _C.malloc_trim(0)


def _set(parameter: int, value: int) -> None:
    if hasattr(_C, "mallopt"):
        _C.mallopt(parameter, value)
