"""Freed memory goes back to the system."""

import ctypes
from pathlib import Path

import pytest

from cp2fast.data.heap import return_free_memory

BLOCK, BLOCKS = 64 * 1024, 1024


def resident_mebibytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def test_holes_in_the_heap_are_given_back() -> None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("another C library than glibc")
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(BLOCK) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    for block in blocks[:-1]:  # the last one keeps the heap from shrinking by itself
        libc.free(block)
    before = resident_mebibytes()
    return_free_memory()
    assert resident_mebibytes() < before - BLOCK * BLOCKS / 2**20 / 2
    libc.free(blocks[-1])
