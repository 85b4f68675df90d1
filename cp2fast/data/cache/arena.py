"""The memory of the pixel cache: decoded pixels by image number.

    host: | state, height, width, offset of each image | pixels |   one mapping for all processes
    GPU:  the tables on the host, the pixels on the card            of a machine; on a card each
                                                                    has its own

Each image that is to be cached has a place of exactly its size from the start. A writer claims the
place, decodes into it and publishes it. Unpublished places are never read, so a process may die at
any moment. Shared host memory is an anonymous file (memfd): it is freed when the last process ends,
however that happens, and the limit of /dev/shm does not apply.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.data.cache.memory import free_memory

_EMPTY, _READY = 0, 1
_HUGE_PAGE = 2 << 20
_BLOCK = 512  # Unit of st_blocks.
_MAP_NORESERVE = 0x4000  # Linux; Python has no constant for it.
RESERVE = 1 << 30
"""The cache takes no more images when less memory than this is free, in bytes."""
CHECK_EVERY = 256 << 20
"""Bytes that the processes add between two checks of the free memory, in each of them."""

Pixels = NDArray[np.uint8]


class Arena:
    """The cache of a data set; safe for any number of threads, and of processes if shared.

    Attributes:
        pixels: uint8 ``[bytes]``, the pixels of all images.
        offset: int64 ``[N]``, start of each image's place; -1 for images without a place.
        size: int64 ``[N]``, size of each place in bytes; 0 for images without a place.
        grows: set to False when memory runs short; no more images are added from then on.
    """

    def __init__(
        self,
        pixels: Tensor,
        tables: dict[str, NDArray[Any]],
        descriptor: int | None = None,
        reserve: int | None = RESERVE,
        check_every: int = CHECK_EVERY,
    ) -> None:
        """Use ``new_host`` or ``new_gpu``; a ``reserve`` of None is never checked."""
        self.pixels = pixels
        self.offset = tables["offset"]
        self.size = tables["size"]
        self.grows = True
        self._state, self._height, self._width = (
            tables[name] for name in ("state", "height", "width")
        )
        self._descriptor = descriptor
        self._reserve = reserve
        self._check_every = check_every
        self._taken = self._checked = 0
        self._lock = threading.Lock()
        self._claimed: set[int] = set()

    @staticmethod
    def new_host(
        size: NDArray[np.int64],
        shared: bool,
        reserve: int = RESERVE,
        check_every: int = CHECK_EVERY,
    ) -> Arena:
        """An empty cache in host memory; pages are allocated as images are added.

        Args:
            size: int64 ``[N]``, bytes of each image's place; 0 for no place.
            shared: whether other processes will ``attach`` to it.
            reserve: as ``RESERVE``.
            check_every: as ``CHECK_EVERY``.

        Raises:
            OSError: the system cannot provide the memory.
        """
        total, descriptor = _layout(len(size))[1] + int(size.sum()), None
        if shared:
            descriptor = os.memfd_create("cp2fast-cache")
            os.ftruncate(descriptor, total)
            memory = mmap.mmap(descriptor, total)
        else:
            # Private memory may use huge pages, which take a fifth of the time of small ones, where
            # Python and the kernel know them.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
            memory = mmap.mmap(-1, total, flags)
            with suppress(AttributeError, OSError):
                memory.madvise(mmap.MADV_HUGEPAGE)
        pixels, tables = _views(memory, len(size))
        _place(tables, size)
        return Arena(pixels, tables, descriptor, reserve, check_every)

    @staticmethod
    def new_gpu(size: NDArray[np.int64], device: torch.device) -> Arena:
        """An empty cache on a GPU. Raises torch.OutOfMemoryError if it does not fit."""
        pixels = torch.empty(int(size.sum()), dtype=torch.uint8, device=device)
        tables: dict[str, NDArray[Any]] = {
            name: np.zeros(len(size), dtype) for name, dtype in _TABLES.items()
        }
        _place(tables, size)
        return Arena(pixels, tables, reserve=None)

    @property
    def address(self) -> tuple[int, int]:
        """(Process, descriptor) of a shared cache, for ``attach`` in the user's other processes."""
        if self._descriptor is None:
            raise ValueError("shared must be true for other processes to attach")
        return os.getpid(), self._descriptor

    @staticmethod
    def attach(
        address: tuple[int, int],
        count: int,
        reserve: int = RESERVE,
        check_every: int = CHECK_EVERY,
    ) -> Arena:
        """Attach to a cache of ``count`` images made by another process on this machine.

        ``reserve`` and ``check_every`` are as for ``new_host``.

        Raises:
            OSError: its memory is not accessible.
        """
        process, descriptor = address
        ours = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR)
        return Arena(*_views(mmap.mmap(ours, 0), count), ours, reserve, check_every)

    def holds(self, numbers: NDArray[np.int64]) -> bool:
        """Whether all these images are in the cache."""
        return bool((self._state[numbers] == _READY).all())

    def missing(self, numbers: NDArray[np.int64]) -> NDArray[np.intp]:
        """The positions in ``numbers`` of images that are not in the cache."""
        return np.flatnonzero(self._state[numbers] != _READY)

    @property
    def is_complete(self) -> bool:
        """Whether every image of the data set is in the cache."""
        return bool((self._state == _READY).all())

    def batch(self, numbers: NDArray[np.int64]) -> RaggedBatch:
        """A batch of these images, all of which are in the cache; nothing is copied."""
        return RaggedBatch(
            pixels=self.pixels,
            offset=torch.from_numpy(self.offset[numbers]),
            height=torch.from_numpy(self._height[numbers]),
            width=torch.from_numpy(self._width[numbers]),
            index=torch.from_numpy(numbers.astype(np.int64)),
        )

    def image(self, number: int) -> Pixels | None:
        """The pixels ``[H, W, 3]`` of an image in host memory; None if it is not in the cache."""
        if self._state[number] != _READY:
            return None
        return self._room(number).reshape(self._height[number], self._width[number], 3)

    def claim(self, number: int, height: int, width: int) -> Pixels | None:
        """Claim the place ``[H, W, 3]`` in host memory for an image that will be decoded into it.

        None if the image is already there, has no place of this size, or is being decoded
        elsewhere. A claimed place must be published or released.
        """
        if not self.reserve(number, height, width):
            return None
        return self._room(number).reshape(height, width, 3)

    def reserve(self, number: int, height: int, width: int) -> bool:
        """Like ``claim``, for pixels to be copied to ``offset``; returns whether it succeeded."""
        wanted = 3 * height * width
        is_free = self._state[number] == _EMPTY and self.size[number] == wanted
        if not (is_free and self._may_grow(wanted)):
            return False
        with self._lock:
            if number in self._claimed or not self._lock_in_all_processes(number):
                return False
            self._claimed.add(number)
        if self._state[number] != _EMPTY:  # Another process was faster.
            self.release(number)
            return False
        return True

    def publish(self, number: int, height: int, width: int) -> None:
        """Mark the pixels of a claimed place as complete."""
        self._height[number], self._width[number] = height, width
        with self._lock:  # Makes earlier writes visible first.
            self._state[number] = _READY
        self.release(number)

    def release(self, number: int) -> None:
        """Give up a claim."""
        with self._lock:
            if number in self._claimed:
                self._claimed.discard(number)
                if self._descriptor is not None:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, number)

    def forget_all(self) -> None:
        """Empty the cache, which must not be in use; its memory is kept."""
        self._state[:] = _EMPTY

    def release_all(self) -> None:
        """Give up the claims of work that was interrupted."""
        for number in list(self._claimed):
            self.release(number)

    def _room(self, number: int) -> Pixels:
        begin = self.offset[number]
        room: Pixels = self.pixels[begin : begin + self.size[number]].numpy()
        return room

    def _may_grow(self, by: int) -> bool:
        if self.grows and self._reserve is not None:
            if self._descriptor is not None:  # All processes add to the file.
                self._taken = os.fstat(self._descriptor).st_blocks * _BLOCK
            self._taken += by
            if self._taken - self._checked > self._check_every:
                self._checked = self._taken
                self.grows = free_memory() > self._reserve
        return self.grows

    def _lock_in_all_processes(self, number: int) -> bool:
        """Lock part of the file; the system releases it if the process dies."""
        if self._descriptor is None:
            return True
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError:
            return False
        return True


_TABLES = {"offset": "<i8", "size": "<i8", "height": "<i4", "width": "<i4", "state": "<u1"}


def _layout(count: int) -> tuple[dict[str, int], int]:
    """Where each table of ``count`` images begins in the memory, and where the pixels begin."""
    begins, end = {}, 0
    for name, dtype in _TABLES.items():
        begins[name] = end
        end += np.dtype(dtype).itemsize * count
    return begins, -(-end // _HUGE_PAGE) * _HUGE_PAGE


def _views(memory: mmap.mmap, count: int) -> tuple[Tensor, dict[str, NDArray[Any]]]:
    """The pixels and the tables of ``count`` images in the memory of a cache."""
    begins, pixels = _layout(count)
    tables: dict[str, NDArray[Any]] = {
        name: np.frombuffer(memory, dtype, count, begins[name]) for name, dtype in _TABLES.items()
    }
    return torch.from_numpy(np.frombuffer(memory, np.uint8, offset=pixels)), tables


def _place(tables: dict[str, NDArray[Any]], size: NDArray[np.int64]) -> None:
    tables["size"][:] = size
    tables["offset"][:] = np.where(size > 0, size.cumsum() - size, -1)
