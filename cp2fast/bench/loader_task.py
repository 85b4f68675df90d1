"""The task of the loader's benchmark, and which systems can run it here."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cp2fast.bench.peers import ffcv_kornia, lightly_train, spdl_v2
from cp2fast.config import DataSettings
from cp2fast.copypaste.backends import available_backends
from cp2fast.data.decoding.decode import BadImage, decode_raster
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.sources.choice import available_sources
from cp2fast.data.sources.loading import DecodeSettings

SEED = 0
HARDWARE_SHARES = (0.0, 0.5, 0.9, 1.0)
"""Shares of images for the GPU's JPEG engine that are tried, to find the best."""
_ON_A_GPU = (
    *("cp2fast-dali-gpu", "decode-dali-gpu"),
    *(f"decode-dali-gpu@{share:g}" for share in HARDWARE_SHARES),
)
_OF_PHOTOS = ("original", "torchvision", "dali-all", "spdl", "lightly-train")
"""Other pipelines, which read photos of 8 bits in three channels."""
_CPU = torch.device("cpu")
_LOOKED_AT = 8
_MOST_CHANNELS = 4


@dataclass(frozen=True, kw_only=True)
class Task:
    """The task of every system.

    Attributes:
        images: a folder or shards, mostly of JPEG.
        beton: the same photos packed, for ``cp2fast-ffcv`` and ``ffcv-kornia``; None skips these.
        device: device of the training; a GPU also composes the batches, after their transfer.
        size: side of the composed images.
        batch_size: samples per batch.
        workers: threads or processes of each loader; for a fair comparison, the number of cores.
        data: range, bands and limits of the images.
    """

    images: ImageSet
    beton: ImageSet | None = None
    device: torch.device = _CPU
    size: int
    batch_size: int
    workers: int
    data: DataSettings = field(default_factory=DataSettings)

    def __post_init__(self) -> None:
        """Check the images.

        Raises:
            UserError: fewer images than a batch.
        """
        for each in (self.images, self.beton):
            if each is not None:
                steps_per_epoch(len(each), self.batch_size)

    @property
    def decoding(self) -> DecodeSettings:
        """How every source of cp2fast decodes the images, and so the ceilings."""
        return DecodeSettings.of(SEED, self.data)

    def plan(
        self, images: ImageSet, stop: int | None = None, independent: bool = False
    ) -> Iterator[NDArray[np.int64]]:
        """The image numbers of each batch, endlessly without ``stop``."""
        count, size = len(images), self.batch_size
        return plan(seed=SEED, count=count, batch_size=size, stop=stop, independent=independent)


def find_missing(task: Task) -> dict[str, str]:
    """Systems and ceilings that cannot be measured here, with the reason."""
    problems = available_sources()
    dali, turbo = problems["dali"], problems["turbo"]
    pack = "no .beton: cp2fast pack DIR FILE.beton, then --beton FILE.beton"
    no_beton = None if task.beton else pack
    on_gpu = task.device.type == "cuda"
    no_gpu = None if on_gpu else "no GPU is used: train.device=cuda on one"
    reasons: list[tuple[str | None, Sequence[str]]] = [
        (dali, ("dali-all", "cp2fast-dali", "decode-dali")),
        (turbo, ("cp2fast-turbo", "decode-turbo", "cp2fast-cached", "cp2fast-cached-independent")),
        (_unlike_photos(task), _OF_PHOTOS),
        (no_beton or turbo, ("cp2fast-ffcv", "decode-ffcv")),
        (no_beton or available_backends()["reference"] or ffcv_kornia.problem(), ["ffcv-kornia"]),
        (spdl_v2.problem(), ("spdl",)),
        (lightly_train.problem(task.images), ("lightly-train",)),
        (no_gpu or dali, _ON_A_GPU),
        (no_gpu or dali or turbo, ("cp2fast-both", "decode-both")),
        (None if on_gpu else "no GPU is used: nothing is transferred", ("transfer",)),
    ]
    return {name: reason for reason, names in reasons if reason for name in names}


def _unlike_photos(task: Task) -> str | None:
    """Why pipelines for photos cannot be measured on these images; None if they can."""
    for number in range(min(_LOOKED_AT, len(task.images))):
        try:
            encoded = task.images.read(number)
            raster = decode_raster(encoded, task.data.max_pixels)
        except BadImage:
            continue
        name = task.images.name(number)
        if raster.is_wide or raster.values.shape[2] > _MOST_CHANNELS:
            return f"it reads photos, and {name} has more than 8 bits or more bands than a photo"
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                image.load()
        except Exception:  # Pillow raises almost anything.
            return f"it reads images with Pillow, which cannot read {name}"
    return None
