"""Choose a source and open it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.config import DataSettings
from cp2fast.cores import decoding_workers
from cp2fast.data import turbojpeg
from cp2fast.data.arena import Arena
from cp2fast.data.bad_images import BadImages
from cp2fast.data.both_source import open_both
from cp2fast.data.cached_source import open_cached
from cp2fast.data.dali_source import open_dali
from cp2fast.data.formats import JPEG_SUFFIXES
from cp2fast.data.image_set import ImageSet
from cp2fast.data.levels import Levels
from cp2fast.data.read_ahead import read_ahead
from cp2fast.data.torch_source import open_torch
from cp2fast.data.transfer import to_gpu
from cp2fast.data.turbo_process import open_turbo_processes
from cp2fast.data.turbo_source import open_turbo
from cp2fast.errors import UserError

_ENOUGH_CORES = 6
"""Cores for one GPU: about what the decoding for a ResNet-50 on it needs."""
_INSTALL_DALI = "pip install nvidia-dali-cuda130"


class Choice(NamedTuple):
    """A source, the device on which it decodes JPEG, and the reason for this choice in one line."""

    name: Literal["turbo", "dali", "torch"]
    decode: Literal["cpu", "gpu", "both"]
    reason: str


def available_sources() -> dict[str, str | None]:
    """Each source and why it cannot be used here, with the fix; None if it works.

    A missing or broken library is reported, never raised.
    """
    return {"turbo": turbojpeg.problem(), "torch": None, "dali": _dali_problem()}


def choose_source(settings: DataSettings, images: ImageSet, device: torch.device) -> Choice:
    """Choose the source for these settings.

    Args:
        settings: only ``source`` and ``decode`` are used.
        images: the data set; libjpeg-turbo is useless if there is no JPEG in it.
        device: device of the training.

    Raises:
        UserError: the requested source is not installed, or cannot do what is requested.
    """
    asked, where = settings.source, settings.decode
    if where in ("gpu", "both"):
        if device.type != "cuda":
            raise UserError(f"data.decode={where} needs a GPU to train on: set data.decode=cpu")
        if asked not in ("auto", "dali"):
            raise UserError(
                f"data.decode={where} needs DALI: set data.source=dali or data.decode=cpu"
            )
        problem = _dali_problem() or (turbojpeg.problem() if where == "both" else None)
        return _needing(problem, "dali", where, f"data.source={asked}, data.decode={where}")
    if asked == "ffcv" and images.kind != "beton":
        raise UserError(
            "data.source=ffcv reads .beton files: make one with cp2fast pack DIR FILE.beton and "
            "set data.root=FILE.beton, or set data.source=turbo"
        )
    if asked == "dali":
        return _needing(_dali_problem(), "dali", "cpu", "data.source=dali")
    if asked in ("turbo", "ffcv"):
        return _needing(turbojpeg.problem(), "turbo", "cpu", f"data.source={asked}")
    if asked == "torch":
        return Choice("torch", "cpu", "data.source=torch")
    jpegs = tuple(map(os.fsencode, JPEG_SUFFIXES))
    if not any(name.lower().endswith(jpegs) for name in images.names):
        return Choice("torch", "cpu", "no JPEG among the images, and libjpeg-turbo is for JPEG")
    cores = decoding_workers(None)
    is_starved = device.type == "cuda" and where == "auto" and cores < _ENOUGH_CORES
    if is_starved and _dali_problem() is None:
        return Choice("dali", "gpu", f"{cores} cores decode less than a GPU does by itself")
    if problem := turbojpeg.problem():
        return Choice("torch", "cpu", problem)
    return Choice("turbo", "cpu", "threads with libjpeg-turbo are the fastest for JPEG")


def open_source(
    choice: Choice,
    settings: DataSettings,
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    seed: int,
    device: torch.device,
    bad: BadImages,
    arena: Arena | None = None,
) -> Iterator[RaggedBatch]:
    """The batches of ``plan``, decoded by the chosen source or taken from the cache.

    Args:
        choice: result of ``choose_source`` for the same data set and device.
        settings: settings of the data.
        images: the data set, from ``list_images``.
        plan: image numbers of each batch.
        seed: the run's seed.
        device: device of the training and of the batches' pixels.
        bad: where bad images are counted and listed.
        arena: the pixel cache, if any.

    Raises:
        UserError: while iterating, too many bad images or a dead decoding process.
    """
    workers = decoding_workers(settings.workers)
    common: dict[str, Any] = {
        "seed": seed,
        "max_pixels": settings.max_pixels,
        "max_side": settings.max_side,
        "levels": Levels.of(settings.range, settings.bands),
        "bad": bad,
    }
    on_gpu = device.type == "cuda"
    first = next(plan, None)
    if first is None:
        return iter(())
    plan = chain([first], plan)
    if images.disk is not None:
        plan = read_ahead(images, images.disk, plan, arena, settings.window)

    def decoded(numbers: Iterator[NDArray[np.int64]]) -> Iterator[RaggedBatch]:
        """By the source alone, on the device where it decodes."""
        if choice.decode == "both":
            return open_both(numbers, by_dali, lambda part: to_gpu(by_turbo(part), device, workers))
        if choice.name == "dali":
            return by_dali(numbers)
        if choice.name == "torch":
            return open_torch(images, numbers, workers=workers, **common)
        return by_turbo(numbers)

    def by_dali(numbers: Iterator[NDArray[np.int64]]) -> Iterator[RaggedBatch]:
        gpu = None if choice.decode == "cpu" else device
        return open_dali(images, numbers, threads=workers, gpu=gpu, largest=len(first), **common)

    def by_turbo(numbers: Iterator[NDArray[np.int64]]) -> Iterator[RaggedBatch]:
        into = arena if in_turbo else None
        if not on_gpu:
            return open_turbo(images, numbers, threads=workers, arena=into, **common)
        return open_turbo_processes(
            images, numbers, threads=workers, arena=into, pinned=True, **common
        )

    def there(numbers: Iterator[NDArray[np.int64]]) -> Iterator[RaggedBatch]:
        batches = decoded(numbers)
        return to_gpu(batches, device, workers) if on_gpu else batches

    in_turbo = choice.name == "turbo" and arena is not None and not arena.pixels.is_cuda
    if arena is None or in_turbo:
        return there(plan)
    if arena.pixels.is_cuda:
        return open_cached(arena, there, plan, len(images), bad)
    batches = open_cached(arena, decoded, plan, len(images), bad)
    return to_gpu(batches, device, workers) if on_gpu else batches


def _needing(
    problem: str | None,
    name: Literal["turbo", "dali", "torch"],
    decode: Literal["cpu", "gpu", "both"],
    reason: str,
) -> Choice:
    if problem:
        raise UserError(problem)
    return Choice(name, decode, reason)


def _dali_problem() -> str | None:
    try:
        importlib.import_module("nvidia.dali")
    except ModuleNotFoundError:
        return f"nvidia.dali is not installed: {_INSTALL_DALI}"
    except Exception as error:  # Importing a broken library can raise anything.
        return f"nvidia.dali is installed but broken ({error}): {_INSTALL_DALI}"
    return None
