"""What ``data.source=auto`` and ``data.decode=auto`` mean: which source decodes, and where.

    settings, images, device, what is installed, cores -> a choice, and why, in a line

Everything that decodes asks here, and nothing here decodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch

from cp2fast.config import DataSettings
from cp2fast.cores import decodes_apart, decoding_workers
from cp2fast.data.decoding import turbojpeg
from cp2fast.data.decoding.formats import JPEG_SUFFIXES, import_problem
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.errors import UserError

_ENOUGH_CORES = 6
"""Cores for one GPU: about what the decoding for a ResNet-50 on it needs."""

Source = Literal["turbo", "dali", "torch"]
Decode = Literal["cpu", "gpu", "both"]


class Choice(NamedTuple):
    """How images are decoded."""

    name: Source
    decode: Decode
    """Where it decodes JPEG."""
    apart: bool
    """Whether ``turbo`` decodes in processes of its own."""
    reason: str
    """Why, in one line."""


def source_problem(name: Source) -> str | None:
    """Why a source cannot be used here, with the fix; None if it works."""
    if name == "dali":
        return import_problem("nvidia.dali", "pip install nvidia-dali-cuda130")
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
    """Choose the source for ``data.source`` and ``data.decode``.

    Args:
        settings: the settings.
        images: the data set.
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
    return Choice("turbo", "cpu", apart, "threads with libjpeg-turbo are the fastest for JPEG")
