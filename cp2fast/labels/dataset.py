"""A labelled data set: pairs of image and mask, the classes, and how masks are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from cp2fast.config import Bands, RangeSetting, Rgb
from cp2fast.data.decoding.decode import BadImage, decode_image, read_file
from cp2fast.data.decoding.levels import BY_TYPE, Levels
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.survey import find_range
from cp2fast.errors import UserError
from cp2fast.labels.coding import Coding, Oddity
from cp2fast.labels.masks import IGNORED, colours_in_words
from cp2fast.labels.painted import Annotations

Item = TypeVar("Item")

_SHOWN = 5
"""How many unknown numbers or colours a message names."""


class Example(NamedTuple):
    """A photo and its mask."""

    image: Path
    mask: Path | Annotations


@dataclass(frozen=True)
class LabelledData:
    """Images with masks.

    Attributes:
        classes: class names by label.
        train: training examples, in the order of their list or names.
        val: evaluation examples.
        train_split: name of the list or folder of ``train``, for messages.
        max_pixels: images with more pixels are refused.
        coding: how the masks are read.
        threads: number of threads that read the data.
        colours: class colours by label, for written masks and for pictures.
        said: the layout, the masks and the split in one line.
        levels: how images of more than 8 bits or three bands are converted.
        has_border: whether 255 is a border between objects, as in VOC, and never a class.
    """

    classes: tuple[str, ...]
    train: list[Example]
    val: list[Example]
    train_split: str
    max_pixels: int
    coding: Coding
    threads: int
    colours: tuple[Rgb, ...] = ()
    said: str = ""
    levels: Levels = BY_TYPE
    has_border: bool = False


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` items, evenly spread, in order."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def read_example(example: Example, data: LabelledData) -> tuple[Tensor, Tensor]:
    """The image, uint8 ``[H, W, 3]`` RGB, and its labels, uint8 ``[H, W]``.

    Raises:
        UserError: a file cannot be read, the sizes differ, or a label is unknown.
    """
    try:
        image = decode_image(read_file(example.image), data.max_pixels, levels=data.levels)
    except BadImage as bad:
        raise UserError(unreadable(example, bad)) from bad
    found = data.coding.read(example.mask)
    if found.unknown and data.coding.unknown == "refuse":
        raise UserError(unknown_labels(example.mask, found.unknown, found.oddity, data))
    labels = torch.from_numpy(found.labels)
    if image.shape[:2] != labels.shape:
        raise UserError(differs(example, (image.shape[0], image.shape[1]), labels.shape))
    return image, labels


def range_of(
    data: LabelledData, range_: RangeSetting | None, bands: Bands | None
) -> tuple[RangeSetting, str]:
    """``find_range`` of the training images; None means ``auto``.

    Raises:
        UserError: most images have several bands and none was chosen, or they lack the chosen ones.
    """
    images = ImageSet.of_files([example.image for example in data.train])
    return find_range(images, range_ or "auto", bands, data.max_pixels, data.threads)


def unreadable(example: Example, bad: BadImage) -> str:
    """The message for an image that cannot be decoded."""
    reason = str(bad).removeprefix("cannot be read: ")
    return f"{example.image} cannot be read: {reason}; save it again, or take it out of the split"


def differs(example: Example, image: tuple[int, int], mask: Sequence[int]) -> str:
    """The message for an image and a mask of different sizes."""
    swapped = image == tuple(mask)[::-1]
    hint = ", both turned by their metadata or neither" if swapped else ""
    return (
        f"{example.image} is {image[1]} x {image[0]} pixels, but its mask {example.mask} is "
        f"{mask[1]} x {mask[0]}: they must be of one size{hint}"
    )


def unknown_labels(
    where: object, pixels: Mapping[int, int], oddity: Oddity, data: LabelledData
) -> str:
    """The message for values of no class in the masks ``where``, with their pixel counts."""
    if data.coding.kind == "colours":
        many = "a colour" if len(pixels) == 1 else f"{len(pixels)} colours"
        shown = colours_in_words(pixels, _SHOWN)
        return f"{where} holds {many} of no class, {shown}: {_FIXES[oddity]}"
    if oddity == "jpeg":
        return (
            f"{where} is a JPEG, which changes values where two areas meet: {len(pixels)} values "
            f"of no class in {sum(pixels.values()):,} pixels; set data.nearest=on to give them the "
            "nearest class, or save it as PNG"
        )
    first = min(pixels)
    if first > IGNORED and data.coding.known.keys() <= set(range(IGNORED + 1)) | {65_535}:
        return (
            f"{where} is a 16-bit mask with the value {max(pixels)}: save it as an 8-bit PNG whose "
            f"values are the labels, {IGNORED} for ignored, or name its values in data.classes"
        )
    count, counts = len(data.classes), f" ({pixels[first]:,} pixels)"
    others = f" and {len(pixels) - 1} more" if len(pixels) > 1 else ""
    plain = all(data.coding.known.get(label) == label for label in range(count))
    known = f"labels 0 to {count - 1}, and 255 for ignored" if plain else "data.classes tells"
    return (
        f"{where} holds label {first}{counts}{others}, but there are {count} classes ({known}): "
        "name them all in classes.txt or data.classes, or set data.unknown=ignore"
    )


_FIXES: dict[Oddity, str] = {
    "": "add them to data.colours, classes.csv or labelmap.txt, or set data.unknown=ignore, or "
    "data.nearest=on where they are nearly a class's",
    "jpeg": "it is a JPEG, which mixes colours where two areas meet; set data.nearest=on to give "
    "them the nearest class, or save it as PNG",
    "numbers": "it is a mask of numbers among masks of colours; save it in colours too, or take it "
    "out",
}
