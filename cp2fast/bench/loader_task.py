"""The task of the loader's benchmark, and which systems can run it here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from cp2fast.bench.peers import ffcv_kornia, lightly_train, spdl_v2
from cp2fast.config import DataSettings
from cp2fast.copypaste.backends import available_backends
from cp2fast.data.decoding.decode import BadImage, decode_raster
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.sources.choice import available_sources

SEED = 0
HARDWARE_SHARES = (0.0, 0.5, 0.9, 1.0)
"""Shares of images for the GPU's JPEG engine that are tried, to find the best."""
SYSTEMS = (
    "original",
    "torchvision",
    "dali-all",
    "ffcv-kornia",
    "spdl",
    "lightly-train",
    "cp2fast-torch",
    "cp2fast-turbo",
    "cp2fast-dali",
    "cp2fast-dali-gpu",
    "cp2fast-both",
    "cp2fast-ffcv",
    "cp2fast-cached",
    "cp2fast-cached-independent",
    "decode-torch",
    "decode-turbo",
    "decode-dali",
    "decode-dali-gpu",
    *(f"decode-dali-gpu@{share:g}" for share in HARDWARE_SHARES),
    "decode-both",
    "decode-ffcv",
)
"""All systems, if nothing is missing."""
_OF_PHOTOS = ("original", "torchvision", "dali-all", "spdl", "lightly-train")
"""Other pipelines, which read photos of 8 bits in three channels."""
_LOOKED_AT = 8
_MOST_CHANNELS = 4
_WITHOUT_END = 10**9


@dataclass(frozen=True)
class Task:
    """The task of every system; for the fields see ``bench_loader``.

    Raises:
        UserError: fewer images than a batch.
    """

    images: ImageSet
    beton: ImageSet | None
    device: torch.device
    size: int
    batch_size: int
    workers: int
    data: DataSettings = field(default_factory=DataSettings)

    def __post_init__(self) -> None:
        for each in (self.images, self.beton):
            if each is not None:
                steps_per_epoch(len(each), self.batch_size)

    @property
    def levels(self) -> Levels:
        """How values of more than 8 bits and other bands are shown."""
        return Levels.of(self.data.range, self.data.bands)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of composed images in a training on this device."""
        return torch.float32 if self.device.type == "cpu" else torch.bfloat16

    def plan(self, images: ImageSet, stop: int = _WITHOUT_END) -> Iterator[Any]:
        """The image numbers of each batch."""
        count, batch_size = len(images), self.batch_size
        return plan(seed=SEED, count=count, batch_size=batch_size, start=0, stop=stop)


def find_missing(task: Task) -> dict[str, str]:
    """Systems and ceilings that cannot be measured here, with the reason."""
    problems = available_sources()
    missing: dict[str, str] = {}
    if problems["dali"]:
        missing |= dict.fromkeys(("dali-all", "cp2fast-dali", "decode-dali"), problems["dali"])
    no_beton = (
        None if task.beton else "no .beton: cp2fast pack DIR FILE.beton, then --beton FILE.beton"
    )
    if unlike_photos := _unlike_photos(task):
        missing |= dict.fromkeys(_OF_PHOTOS, unlike_photos)
    if problems["turbo"]:
        missing |= dict.fromkeys(("cp2fast-turbo", "decode-turbo"), problems["turbo"])
    if no_source := no_beton or problems["turbo"]:
        missing |= dict.fromkeys(("cp2fast-ffcv", "decode-ffcv"), no_source)
    if no_peer := no_beton or available_backends()["reference"] or ffcv_kornia.problem():
        missing["ffcv-kornia"] = no_peer
    if spdl := spdl_v2.problem():
        missing["spdl"] = spdl
    if lightly := lightly_train.problem(task.images):
        missing["lightly-train"] = lightly
    no_gpu = None if task.device.type == "cuda" else "no GPU is used: train.device=cuda on one"
    if no_gpu_decoder := no_gpu or problems["dali"]:
        missing |= {name: no_gpu_decoder for name in SYSTEMS if "dali-gpu" in name}
    if no_both := no_gpu or problems["dali"] or problems["turbo"]:
        missing |= dict.fromkeys(("cp2fast-both", "decode-both"), no_both)
    if problems["turbo"]:
        cached = ("cp2fast-cached", "cp2fast-cached-independent")
        missing |= dict.fromkeys(cached, problems["turbo"])
    if task.device.type == "cpu":
        missing["transfer"] = "no GPU is used: nothing is transferred"
    return missing


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
            return f"it reads what Pillow does, and {name} is nothing of that"
    return None
