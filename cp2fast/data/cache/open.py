"""Open the cache of decoded images (``data.cache``), one for all processes of a machine.

    what was chosen (``choice.py``) -> an arena in each process, and a line about it

The batches are the same in any case, so none of this is part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from cp2fast import philox
from cp2fast.config import DataSettings
from cp2fast.cores import available_cores, decodes_apart
from cp2fast.data.cache.arena import Arena
from cp2fast.data.cache.choice import CacheChoice, Room, choose_cache, in_gib
from cp2fast.data.cache.sizes import decoded_bytes
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.errors import UserError
from cp2fast.philox import Stream


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


class _Opened(NamedTuple):
    """What the first process of a machine tells the others."""

    chosen: CacheChoice
    """Without sizes if the cache is shared."""
    address: tuple[int, int] | None = None
    """Where the other processes attach to a shared cache."""
    error: str | None = None
    """Message for the user, if the settings cannot be met."""


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
        epochs: as for ``choose_cache``.
        sharing: position among the processes of the run.

    Raises:
        UserError: the requested cache does not fit, or there is no GPU.
    """
    arena, own = None, _Opened(CacheChoice("off"))
    first = sharing.rank - sharing.local_rank
    of_machine = sharing.gather(first).count(first)
    if sharing.local_rank == 0:
        arena, own = _open_first(settings, images, seed, device, epochs, of_machine)
    everywhere: list[_Opened] = sharing.gather(own)
    for other in everywhere:
        if other.error is not None:
            raise UserError(other.error)
    opened = everywhere[first]
    where = opened.chosen.where
    if where != "off" and arena is None:
        arena = _join(opened, len(images), device)
    joined = sharing.gather(where == "off" or arena is not None)
    if not all(joined[first : first + of_machine]):
        return Cache(None, f"cache: off, {_UNREACHABLE[where]}")
    return Cache(arena, opened.chosen.line)


_UNREACHABLE = {
    "off": "",
    "host": "as the processes of this machine cannot share memory",
    "gpu": "as the memory of a GPU is taken by something else",
}


def _open_first(
    settings: DataSettings,
    images: ImageSet,
    seed: int,
    device: torch.device,
    epochs: float,
    processes: int,
) -> tuple[Arena | None, _Opened]:
    """Choose for all ``processes`` of this machine, and open what they share."""
    order = philox.permutation(seed, Stream.CACHE, 0, len(images))
    try:
        chosen = choose_cache(
            settings.cache,
            device,
            len(images),
            epochs,
            lambda: Room.find(settings, device),
            order,
            lambda budget: decoded_bytes(
                images,
                order,
                budget,
                threads=available_cores(),
                max_pixels=settings.max_pixels,
                max_side=settings.max_side,
            ),
        )
    except UserError as error:
        return None, _Opened(CacheChoice("off"), error=str(error))
    if chosen.where != "host" or chosen.size is None:
        return None, _Opened(chosen)
    try:
        arena = Arena.new_host(chosen.size, shared=processes > 1 or decodes_apart(device))
    except OSError as error:
        size = in_gib(int(chosen.size.sum()))
        line = f"cache: off, as the system gives no {size} ({error.strerror or error})"
        return None, _Opened(CacheChoice("off", line=line))
    return arena, _Opened(chosen._replace(size=None), arena.address if processes > 1 else None)


def _join(opened: _Opened, count: int, device: torch.device) -> Arena | None:
    """The cache made by the machine's first process, or a new one on this GPU."""
    size = opened.chosen.size
    try:
        if opened.address is not None:
            return Arena.attach(opened.address, count)
        if size is not None:
            return Arena.new_gpu(size, device)
    except (OSError, torch.OutOfMemoryError):
        pass
    return None
