"""Decide whether, where and how many decoded images to keep in memory (``data.cache``).

    settings, sizes in the headers, free memory -> an arena, and a line about the decision

The batches are the same in any case, so none of this is part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast import philox
from cp2fast.config import DataSettings
from cp2fast.cores import available_cores
from cp2fast.data.arena import RESERVE, Arena
from cp2fast.data.image_set import ImageSet
from cp2fast.data.memory import free_memory
from cp2fast.data.sizes import decoded_bytes
from cp2fast.errors import UserError
from cp2fast.philox import Stream

_HOST_SHARE = 0.7
"""Largest share of the free host memory that is used without ``data.cache_gib``."""
_GPU_SHARE = 0.4
"""The same for GPU memory, before the training has allocated its own."""
_WORTH_IT = 0.02
"""``auto`` uses no cache if a smaller share of the images fits."""
_GIB = 1 << 30


class Sharing(NamedTuple):
    """The position of this process among those of the run.

    Attributes:
        gather: collects a value from all processes, in the order of their ranks.
        rank: rank of this process.
        local_rank: its rank on its machine; the ranks of a machine are consecutive.
    """

    gather: Callable[[Any], list[Any]] = lambda value: [value]
    rank: int = 0
    local_rank: int = 0


class _Found(NamedTuple):
    """The decision of the first process of a machine.

    Attributes:
        where: place of the cache.
        line: message about it.
        size: bytes of each image's place, if each process makes its own cache.
        address: address at which the other processes attach to a shared cache.
        error: message for the user, if the settings cannot be met.
    """

    where: Literal["off", "host", "gpu"]
    line: str = ""
    size: NDArray[np.int64] | None = None
    address: tuple[int, int] | None = None
    error: str | None = None


class Cache(NamedTuple):
    """The cache of a process, if any, and a line about what was chosen, or an empty one."""

    arena: Arena | None
    line: str


def open_cache(
    settings: DataSettings,
    images: ImageSet,
    seed: int,
    device: torch.device,
    epochs: float,
    sharing: Sharing = Sharing(),  # noqa: B008  # immutable
) -> Cache:
    """Open the cache of a run; all its processes call this together.

    Args:
        settings: ``cache``, ``cache_gib``, ``max_pixels`` and ``max_side`` are used.
        images: the data set.
        seed: seed of the run; if only part of the images is cached, it determines which.
        device: device of the training.
        epochs: how often an image is used on average; with no more than 1, ``auto`` caches none.
        sharing: position among the processes of the run.

    Raises:
        UserError: the requested cache does not fit, or there is no GPU.
    """
    arena, found = None, _Found("off")
    first = sharing.rank - sharing.local_rank
    of_machine = sharing.gather(first).count(first)
    if sharing.local_rank == 0:
        arena, found = _decide(settings, images, seed, device, epochs, of_machine)
    everywhere: list[_Found] = sharing.gather(found)
    for other in everywhere:
        if other.error is not None:
            raise UserError(other.error)
    found = everywhere[first]
    if found.where != "off" and arena is None:
        arena = _join(found, len(images), device)
    joined = sharing.gather(found.where == "off" or arena is not None)
    if not all(joined[first : first + of_machine]):
        return Cache(None, f"cache: off, {_UNREACHABLE[found.where]}")
    return Cache(arena, found.line)


_UNREACHABLE = {
    "off": "",
    "host": "as the processes of this machine cannot share memory",
    "gpu": "as the memory of a GPU is taken by something else",
}


def _join(found: _Found, count: int, device: torch.device) -> Arena | None:
    """The cache made by the machine's first process, or a new one on this GPU."""
    try:
        if found.address is not None:
            return Arena.attach(found.address, count)
        if found.where == "gpu" and found.size is not None:
            return Arena.new_gpu(found.size, device)
    except (OSError, torch.OutOfMemoryError):
        return None
    return None


def _decide(
    settings: DataSettings,
    images: ImageSet,
    seed: int,
    device: torch.device,
    epochs: float,
    processes: int,
) -> tuple[Arena | None, _Found]:
    asked = settings.cache
    if asked == "off" or (asked == "auto" and epochs <= 1):
        return None, _Found("off")
    if asked == "gpu" and device.type != "cuda":
        return None, _Found(
            "off", error="data.cache=gpu needs a GPU to train on: set data.cache=host"
        )
    room = _Room.find(settings, device)
    order = philox.permutation(seed, Stream.CACHE, 0, len(images))
    size, all_fit, requests = decoded_bytes(
        images,
        order,
        max(room.host, room.gpu),
        threads=available_cores(),
        max_pixels=settings.max_pixels,
        max_side=settings.max_side,
    )
    total = int(size.sum())
    if room.gpu and all_fit and total <= room.gpu:
        line = f"cache: on the GPU, all {len(images):,} images, {_gib(total)} of {_gib(room.gpu)}"
        return None, _Found("gpu", line, size=size)
    if asked == "gpu":
        error = (
            f"data.cache=gpu holds the whole data set or none of it, and its images do not fit in "
            f"the {_gib(room.gpu)} that a cache may take there: set data.cache=host, or make them "
            "smaller with data.max_side"
        )
        return None, _Found("off", error=error)
    if total > room.host:
        size, all_fit = _first_that_fit(size, order, room.host), False
    fit, total = int((size > 0).sum()), int(size.sum())
    if fit == 0 or (asked == "auto" and fit < _WORTH_IT * len(images)):
        return None, _Found("off", f"cache: off, {fit:,} of {len(images):,} images fit")
    try:
        # On a GPU, decoding is done in other processes (turbo_process.py).
        arena = Arena.new_host(size, shared=processes > 1 or device.type == "cuda")
    except OSError as error:
        line = f"cache: off, as the system gives no {_gib(total)} ({error.strerror or error})"
        return None, _Found("off", line)
    many = f"all {fit:,}" if all_fit else f"{fit:,} of {len(images):,}"
    line = f"cache: in host memory, {many} images, {_gib(total)} of {_gib(room.host)}"
    if requests:
        line += f" (the headers of {requests:,} remote images were asked for)"
    return arena, _Found("host", line, address=arena.address if processes > 1 else None)


class _Room(NamedTuple):
    """The memory available for a cache, in bytes."""

    host: int
    gpu: int

    @staticmethod
    def find(settings: DataSettings, device: torch.device) -> _Room:
        asked = None if settings.cache_gib is None else int(settings.cache_gib * _GIB)
        host = gpu = 0
        if settings.cache != "gpu":
            most = max(0, free_memory() - RESERVE)
            host = int(most * _HOST_SHARE) if asked is None else min(asked, most)
        if settings.cache in ("auto", "gpu") and device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            gpu = int(free * _GPU_SHARE) if asked is None else min(asked, free)
        return _Room(host, gpu)


def _first_that_fit(
    size: NDArray[np.int64], order: NDArray[np.int64], budget: int
) -> NDArray[np.int64]:
    kept = np.where(size[order].cumsum() <= budget, size[order], 0)
    result = np.zeros_like(size)
    result[order] = kept
    return result


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / (1 << 20):.0f} MiB"
