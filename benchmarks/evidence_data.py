"""The sets that evidence.py judges on, brought to a small size and with fixed subsets of labels.

A copy holds, for each set, a folder in VOC layout and one of unlabelled photos to pretrain on:

    NAME/             JPEGImages, SegmentationClass, classes.txt, ImageSets/Segmentation/*.txt
    NAME-unlabelled/  the images of train, for CamVid also photos; never one of val

Lists besides train and val: ``few0``, ``few1`` ... an eighth of train each; ``recipe_train`` and
``recipe_val``, the first three quarters of train and the last one, on which settings are chosen;
``recipe_few``, an eighth of the former.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageOps

from cp2fast.probe.probe import subset

SETS = ("camvid", "nuclei")
FEW = 1 / 8
LONG_SIDE = 320
"""Pixels, of the labelled images; the unlabelled ones are four fifths of it."""
_QUALITY = 85
_LISTS = Path("ImageSets") / "Segmentation"


def prepare(source: Path, target: Path, seeds: Sequence[int], long_side: int = LONG_SIDE) -> None:
    """Copy the sets below ``source`` (NAME-voc, photos) to ``target``, shrunk to ``long_side``."""
    for name in SETS:
        voc = source / f"{name}-voc"
        if voc.is_dir():
            copy_set(voc, target / name, seeds, long_side)
            photos = (
                sorted((source / "photos").rglob("*.[jJ][pP]*[gG]")) if name == "camvid" else []
            )
            names = read_list(voc, "train")
            unlabelled = [voc / "JPEGImages" / f"{image}.jpg" for image in names]
            copy_photos([*unlabelled, *photos], target / f"{name}-unlabelled", 4 * long_side // 5)


def copy_set(voc: Path, target: Path, seeds: Sequence[int], long_side: int) -> None:
    """A set in VOC layout, with the lists named above."""
    for folder in ("JPEGImages", "SegmentationClass", _LISTS):
        (target / folder).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(voc / "classes.txt", target / "classes.txt")
    train, val = read_list(voc, "train"), read_list(voc, "val")
    for name in (*train, *val):
        with Image.open(voc / "JPEGImages" / f"{name}.jpg") as photo:
            small = shrunk(photo.convert("RGB"), long_side, Image.Resampling.BOX)
            small.save(target / "JPEGImages" / f"{name}.jpg", quality=_QUALITY)
        with Image.open(voc / "SegmentationClass" / f"{name}.png") as mask:
            small = shrunk(mask, long_side, Image.Resampling.NEAREST)
            small.save(target / "SegmentationClass" / f"{name}.png")
    cut = 3 * len(train) // 4
    lists = {"train": train, "val": val, "recipe_train": train[:cut], "recipe_val": train[cut:]}
    lists["recipe_few"] = [train[number] for number in subset(cut, FEW, 0)]
    for seed in seeds:
        lists[f"few{seed}"] = [train[number] for number in subset(len(train), FEW, seed)]
    for split, names in lists.items():
        (target / _LISTS / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def copy_photos(photos: Iterable[Path], target: Path, long_side: int) -> None:
    """Photos as JPEG files with numbers for names."""
    target.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(photos):
        with Image.open(path) as photo:
            upright = ImageOps.exif_transpose(photo).convert("RGB")
            small = shrunk(upright, long_side, Image.Resampling.BOX)
            small.save(target / f"{number:05}.jpg", quality=_QUALITY)


def shrunk(image: Image.Image, long_side: int, filter_: Image.Resampling) -> Image.Image:
    scale = long_side / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(scale * side)) for side in image.size)
    return image.resize((width, height), filter_)


def read_list(voc: Path, split: str) -> list[str]:
    return (voc / _LISTS / f"{split}.txt").read_text().split()
