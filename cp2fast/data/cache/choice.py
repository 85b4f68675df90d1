"""What ``data.cache=auto`` means: where decoded images are kept, and which of them.

    settings, sizes of the images, device, free memory -> a choice, and a line about it

Nothing here allocates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.config import DataSettings
from cp2fast.data.cache.arena import RESERVE
from cp2fast.data.cache.memory import free_memory
from cp2fast.data.cache.sizes import Sizes
from cp2fast.errors import UserError

_HOST_SHARE = 0.7
"""Largest share of the free host memory that is used without ``data.cache_gib``."""
_GPU_SHARE = 0.4
"""The same for GPU memory, before the training has allocated its own."""
_WORTH_IT = 0.02
"""``auto`` uses no cache if a smaller share of the images fits."""
_GIB = 1 << 30


class Room(NamedTuple):
    """The memory that a cache may take, in bytes."""

    host: int
    gpu: int

    @staticmethod
    def find(settings: DataSettings, device: torch.device) -> Room:
        """What ``data.cache_gib`` allows, or a share of what is free."""
        asked = None if settings.cache_gib is None else int(settings.cache_gib * _GIB)
        host = gpu = 0
        if settings.cache != "gpu":
            most = max(0, free_memory() - RESERVE)
            host = int(most * _HOST_SHARE) if asked is None else min(asked, most)
        if settings.cache in ("auto", "gpu") and device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            gpu = int(free * _GPU_SHARE) if asked is None else min(asked, free)
        return Room(host, gpu)


class CacheChoice(NamedTuple):
    """Where decoded images are kept, and which."""

    where: Literal["off", "host", "gpu"]
    size: NDArray[np.int64] | None = None
    """int64 ``[N]``, bytes of each image's place; 0 for no place."""
    line: str = ""
    """What was chosen, for the user."""


def choose_cache(
    asked: Literal["auto", "off", "host", "gpu"],
    device: torch.device,
    images: int,
    epochs: float,
    room: Callable[[], Room],
    order: NDArray[np.int64],
    sizes: Callable[[int], Sizes],
) -> CacheChoice:
    """Choose what to cache.

    Args:
        asked: ``data.cache``.
        device: device of the training.
        images: number of images, N.
        epochs: how often an image is used on average; with no more than 1, ``auto`` caches none.
        room: the memory for it; called only if it is needed, like ``sizes``.
        order: int64 ``[N]``, the order in which images get a place while there is room.
        sizes: the sizes of the images that fit in that many bytes, taken in ``order``.

    Raises:
        UserError: ``gpu`` is asked for, but there is no GPU, or the images do not fit there.
    """
    if asked == "off" or (asked == "auto" and epochs <= 1):
        return CacheChoice("off")
    if asked == "gpu" and device.type != "cuda":
        raise UserError("data.cache=gpu needs a GPU to train on: set data.cache=host")
    host, gpu = room()
    size, all_fit, requests = sizes(max(host, gpu))
    total = int(size.sum())
    if gpu and all_fit and total <= gpu:
        line = f"cache: on the GPU, all {images:,} images, {in_gib(total)} of {in_gib(gpu)}"
        return CacheChoice("gpu", size, line)
    if asked == "gpu":
        raise UserError(
            f"data.cache=gpu holds the whole data set or none of it, and its images do not fit in "
            f"the {in_gib(gpu)} that a cache may take there: set data.cache=host, or make them "
            "smaller with data.max_side"
        )
    if total > host:
        size, all_fit = _first_that_fit(size, order, host), False
    fit, total = int((size > 0).sum()), int(size.sum())
    if fit == 0 or (asked == "auto" and fit < _WORTH_IT * images):
        return CacheChoice("off", None, f"cache: off, {fit:,} of {images:,} images fit")
    many = f"all {fit:,}" if all_fit else f"{fit:,} of {images:,}"
    line = f"cache: in host memory, {many} images, {in_gib(total)} of {in_gib(host)}"
    if requests:
        line += f" (the headers of {requests:,} remote images were asked for)"
    return CacheChoice("host", size, line)


def in_gib(count: int) -> str:
    """A number of bytes in words."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / (1 << 20):.0f} MiB"


def _first_that_fit(
    size: NDArray[np.int64], order: NDArray[np.int64], budget: int
) -> NDArray[np.int64]:
    result = np.zeros_like(size)
    result[order] = np.where(size[order].cumsum() <= budget, size[order], 0)
    return result
