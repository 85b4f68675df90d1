"""What ``auto`` means: which source decodes and where, in threads or processes, and what is cached.

    settings, images, device, what is installed, cores, free memory -> a choice, and why, in a line

Everything that decodes asks here, and nothing here decodes or allocates.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.config import DataSettings
from cp2fast.cores import decoding_workers
from cp2fast.data import turbojpeg
from cp2fast.data.arena import RESERVE
from cp2fast.data.formats import JPEG_SUFFIXES
from cp2fast.data.image_set import ImageSet
from cp2fast.data.memory import free_memory
from cp2fast.data.sizes import Sizes
from cp2fast.errors import UserError

_ENOUGH_CORES = 6
"""Cores for one GPU: about what the decoding for a ResNet-50 on it needs."""
_HOST_SHARE = 0.7
"""Largest share of the free host memory that is used without ``data.cache_gib``."""
_GPU_SHARE = 0.4
"""The same for GPU memory, before the training has allocated its own."""
_WORTH_IT = 0.02
"""``auto`` uses no cache if a smaller share of the images fits."""
_GIB = 1 << 30
_INSTALL_DALI = "pip install nvidia-dali-cuda130"

Source = Literal["turbo", "dali", "torch"]
Decode = Literal["cpu", "gpu", "both"]


class Choice(NamedTuple):
    """How images are decoded.

    Attributes:
        name: the source.
        decode: where it decodes JPEG.
        apart: whether ``turbo`` decodes in processes of its own.
        reason: why, in one line.
    """

    name: Source
    decode: Decode
    apart: bool
    reason: str


def decodes_apart(device: torch.device) -> bool:
    """Whether threads that decode belong in processes of their own (see ``workers.py``).

    They do if this process launches the kernels of a GPU: the threads' work would delay launches.
    """
    return device.type == "cuda"


def source_problem(name: Source) -> str | None:
    """Why a source cannot be used here, with the fix; None if it works.

    A missing or broken library is reported, never raised.
    """
    if name == "dali":
        return _dali_problem()
    return turbojpeg.problem() if name == "turbo" else None


def available_sources() -> dict[Source, str | None]:
    """Each source and its problem, if any."""
    return {name: source_problem(name) for name in get_args(Source)}


def choose_source(
    settings: DataSettings,
    images: ImageSet,
    device: torch.device,
    *,
    cores: int | None = None,
    problem: Callable[[Source], str | None] = source_problem,
) -> Choice:
    """Choose the source for these settings.

    Args:
        settings: only ``source`` and ``decode`` are used.
        images: the data set; libjpeg-turbo is useless if there is no JPEG in it.
        device: device of the training.
        cores: cores for this process; None asks the system.
        problem: what is wrong with a source here.

    Raises:
        UserError: the requested source is not installed, or cannot do what is requested.
    """
    asked, where, apart = settings.source, settings.decode, decodes_apart(device)

    def needing(needed: list[Source], decode: Decode, reason: str) -> Choice:
        for name in needed:
            if found := problem(name):
                raise UserError(found)
        return Choice(needed[0], decode, apart, reason)

    if where in ("gpu", "both"):
        if device.type != "cuda":
            raise UserError(f"data.decode={where} needs a GPU to train on: set data.decode=cpu")
        if asked not in ("auto", "dali"):
            raise UserError(
                f"data.decode={where} needs DALI: set data.source=dali or data.decode=cpu"
            )
        reason = f"data.source={asked}, data.decode={where}"
        return needing(["dali", "turbo"] if where == "both" else ["dali"], where, reason)
    if asked == "ffcv" and images.kind != "beton":
        raise UserError(
            "data.source=ffcv reads .beton files: make one with cp2fast pack DIR FILE.beton and "
            "set data.root=FILE.beton, or set data.source=turbo"
        )
    if asked != "auto":
        return needing(["turbo" if asked == "ffcv" else asked], "cpu", f"data.source={asked}")
    jpegs = tuple(map(os.fsencode, JPEG_SUFFIXES))
    if not any(name.lower().endswith(jpegs) for name in images.names):
        reason = "no JPEG among the images, and libjpeg-turbo is for JPEG"
        return Choice("torch", "cpu", apart, reason)
    cores = decoding_workers(None) if cores is None else cores
    is_starved = device.type == "cuda" and where == "auto" and cores < _ENOUGH_CORES
    if is_starved and problem("dali") is None:
        reason = f"{cores} cores decode less than a GPU does by itself"
        return Choice("dali", "gpu", apart, reason)
    if found := problem("turbo"):
        return Choice("torch", "cpu", apart, found)
    reason = "threads with libjpeg-turbo are the fastest for JPEG"
    return Choice("turbo", "cpu", apart, reason)


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
    """Where decoded images are kept, and which.

    Attributes:
        where: place of the cache.
        size: int64 ``[N]``, bytes of each image's place; 0 for no place.
        line: what was chosen, for the user.
    """

    where: Literal["off", "host", "gpu"]
    size: NDArray[np.int64] | None = None
    line: str = ""


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
    kept = np.where(size[order].cumsum() <= budget, size[order], 0)
    result = np.zeros_like(size)
    result[order] = kept
    return result


def _dali_problem() -> str | None:
    try:
        importlib.import_module("nvidia.dali")
    except ModuleNotFoundError:
        return f"nvidia.dali is not installed: {_INSTALL_DALI}"
    except Exception as error:  # Importing a broken library can raise anything.
        return f"nvidia.dali is installed but broken ({error}): {_INSTALL_DALI}"
    return None
