"""The labelled images of a probe: in VOC layout, or photos and masks in two folders.

DIR/images/NAME.jpg     or any other suffix of images
DIR/masks/NAME.png      a palette or grey PNG whose pixel values are the labels
DIR/classes.txt         one name a line, label 0 first; without it the labels' numbers
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from cp2fast.config import LabelledDataSettings
from cp2fast.cores import decoding_workers
from cp2fast.data.formats import readable_suffixes
from cp2fast.data.levels import Levels
from cp2fast.data.voc import IGNORED, VocData, open_voc, read_mask
from cp2fast.data.voc_split import Example
from cp2fast.errors import UserError
from cp2fast.philox import Stream, permutation

Item = TypeVar("Item")

VAL_SHARE = 1 / 4
"""Of images without lists: drawn once for all, the same in every call."""


def open_labelled(settings: LabelledDataSettings, root: Path) -> VocData:
    """The labelled images below ``root``, with those to learn from and those to score on.

    Raises:
        UserError: neither layout, or a photo, a mask, a list or a class name is missing.
    """
    if (root / "images").is_dir() and (root / "masks").is_dir():
        return _open_pairs(settings, root)
    if not (root / "ImageSets" / "Segmentation").is_dir():
        raise UserError(
            f"{root} holds no labelled images: it needs VOC layout (JPEGImages, SegmentationClass, "
            "ImageSets), or the folders images and masks"
        )
    return open_voc(settings, root)


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` of the items, evenly spread over them, in order."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def _open_pairs(settings: LabelledDataSettings, root: Path) -> VocData:
    photos = sorted(
        p for p in (root / "images").iterdir() if p.suffix.lower() in readable_suffixes()
    )
    examples = [Example(photo, root / "masks" / f"{photo.stem}.png") for photo in photos]
    missing = [example.mask for example in examples if not example.mask.is_file()]
    if missing:
        raise UserError(
            f"there is no mask {missing[0]} ({len(missing)} of {len(examples)} photos have none): "
            "add them, or take the photos out"
        )
    held_out = round(VAL_SHARE * len(examples))
    if held_out == 0:
        raise UserError(f"{root / 'images'} holds {len(examples)} photos: a probe needs 2 or more")
    order = permutation(0, Stream.PROBE, 2, len(examples)).tolist()
    val = set(order[:held_out])
    return VocData(
        classes=settings.classes or _class_names(root, examples),
        train=[example for number, example in enumerate(examples) if number not in val],
        val=[examples[number] for number in sorted(val)],
        train_split="images",
        max_pixels=settings.max_pixels,
        unknown=settings.unknown,
        threads=decoding_workers(settings.workers),
        levels=Levels.of(settings.range, settings.bands),
    )


def _class_names(root: Path, examples: list[Example]) -> tuple[str, ...]:
    """From ``classes.txt``, else the numbers up to the largest label."""
    file = root / "classes.txt"
    if file.is_file():
        lines = (line.strip() for line in file.read_text("utf-8-sig").splitlines())
        return tuple(line for line in lines if line)
    largest = 1
    for example in examples:
        labels = read_mask(example.mask, IGNORED, "refuse")
        known = labels[labels != IGNORED]
        largest = max(largest, int(known.max()) if len(known) else 0)
    return tuple(str(label) for label in range(largest + 1))
