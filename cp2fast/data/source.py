"""The choice of a source, and its opening."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.config import DataSettings
from cp2fast.data import turbojpeg
from cp2fast.data.bad_images import BadImages
from cp2fast.data.dali_source import open_dali
from cp2fast.data.ffcv_source import open_ffcv
from cp2fast.data.images import ImageSet
from cp2fast.data.torch_source import open_torch
from cp2fast.errors import UserError

_INSTALL_DALI = "pip install nvidia-dali-cuda130"


class Choice(NamedTuple):
    """A source, where it decodes JPEG, and why it was chosen, in one line."""

    name: Literal["dali", "ffcv", "torch"]
    decode: Literal["cpu", "gpu"]
    reason: str


def available_sources() -> dict[str, str | None]:
    """Each source and what is wrong with it here, with the fix; None if it works.

    A library that is missing or broken is reported, never raised.
    """
    return {"torch": None, "dali": _dali_problem(), "ffcv": turbojpeg.problem()}


def choose_source(settings: DataSettings, images: ImageSet, device: torch.device) -> Choice:
    """The source for these settings.

    Args:
        settings: ``source`` and ``decode`` matter here.
        images: the data set; without a JPEG in it DALI has nothing to do.
        device: of the training.

    Raises:
        UserError: the source asked for is not installed, or cannot do what is asked of it.
    """
    on_gpu = settings.decode == "gpu"
    if on_gpu and device.type != "cuda":
        raise UserError("data.decode=gpu needs a GPU to train on: set data.decode=cpu")
    if settings.source == "ffcv" and images.kind != "beton":
        raise UserError(
            "data.source=ffcv reads .beton files: make one with cp2fast pack DIR FILE.beton and "
            "set data.root=FILE.beton, or set data.source=dali or data.source=torch"
        )
    if settings.source in ("auto", "ffcv") and images.kind == "beton" and not on_gpu:
        problem = turbojpeg.problem()
        if not problem:
            return Choice("ffcv", "cpu", "the data set is a .beton")
        if settings.source == "ffcv":
            raise UserError(problem)
    problem = None if settings.source == "torch" else _dali_problem()
    if settings.source == "dali" or on_gpu:
        if settings.source not in ("auto", "dali"):
            raise UserError("data.decode=gpu needs DALI: set data.source=dali or data.decode=cpu")
        if problem:
            raise UserError(problem)
        asked = f"data.source={settings.source}, data.decode={settings.decode}"
        return Choice("dali", "gpu" if on_gpu else "cpu", asked)
    if settings.source == "torch":
        return Choice("torch", "cpu", "data.source=torch")
    if problem:
        return Choice("torch", "cpu", problem)
    if not any(name.lower().endswith((b".jpg", b".jpeg")) for name in images.names):
        return Choice("torch", "cpu", "no JPEG among the images, and DALI is for JPEG")
    return Choice("dali", "cpu", "DALI is installed, and is the fastest for JPEG")


def open_source(
    choice: Choice,
    settings: DataSettings,
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    seed: int,
    device: torch.device,
    bad: BadImages,
) -> Iterator[RaggedBatch]:
    """The batches of ``plan``, decoded by the source that was chosen.

    Args:
        choice: of ``choose_source``, for the same data set and device.
        settings: of the data.
        images: the data set, as ``list_images`` gives it.
        plan: image numbers of each batch.
        seed: of the run.
        device: of the training; batches are on it if the GPU decodes, else on the CPU.
        bad: where bad images are counted and listed.

    Raises:
        UserError: while iterating, too many bad images or a dead decoder.
    """
    if choice.name == "dali":
        return open_dali(
            images,
            plan,
            seed=seed,
            threads=settings.workers,
            gpu=device if choice.decode == "gpu" else None,
            max_pixels=settings.max_pixels,
            bad=bad,
        )
    if choice.name == "ffcv":
        return open_ffcv(
            images,
            plan,
            seed=seed,
            threads=settings.workers,
            max_pixels=settings.max_pixels,
            bad=bad,
        )
    return open_torch(
        images,
        plan,
        seed=seed,
        workers=settings.workers,
        max_pixels=settings.max_pixels,
        bad=bad,
    )


def _dali_problem() -> str | None:
    try:
        importlib.import_module("nvidia.dali")
    except ModuleNotFoundError:
        return f"nvidia.dali is not installed: {_INSTALL_DALI}"
    except Exception as error:  # A broken library can raise anything while it is imported.
        return f"nvidia.dali is installed but broken ({error}): {_INSTALL_DALI}"
    return None
