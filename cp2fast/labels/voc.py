"""Data sets in the layout of PASCAL VOC: splits, masks and class names.

    JPEGImages/NAME.jpg
    SegmentationClassAug/NAME.png      where it exists, before
    SegmentationClass/NAME.png
    ImageSets/Segmentation/SPLIT.txt   one NAME a line
    classes.txt                        one name a line, label 0 first; without it VOC's own

A mask is a palette or grey PNG whose pixel values are the labels; 255 is ignored.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cp2fast.config import LabelledDataSettings
from cp2fast.cores import decoding_workers
from cp2fast.data import png
from cp2fast.data.decode import BadImage, decode_image, image_size, read_file
from cp2fast.data.kinds import kind_of
from cp2fast.data.orientation import UPRIGHT, orient, orientation_of
from cp2fast.data.voc_split import Example, list_of, read_split
from cp2fast.errors import UserError
from cp2fast.files import is_file, place_of, read_text

IGNORED = 255
"""The label of pixels that count neither in the loss nor in the evaluation."""

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)

_SHOWN = 5
"""Classes named in a warning."""

Unknown = Literal["refuse", "ignore"]


@dataclass(frozen=True)
class VocData:
    """A labelled data set.

    Attributes:
        classes: names by label.
        train: what is trained on, in the split's order.
        val: what is evaluated on.
        train_split: the name of the list that ``train`` is.
        max_pixels: an image of more is refused.
        unknown: what becomes of labels beyond the classes.
        threads: that read it.
    """

    classes: tuple[str, ...]
    train: list[Example]
    val: list[Example]
    train_split: str
    max_pixels: int
    unknown: Unknown
    threads: int


def open_voc(settings: LabelledDataSettings, root: Path) -> VocData:
    """The data set below ``root``; every file of its splits is there.

    Raises:
        UserError: no such layout, or a split, an image, a mask or a class name is missing.
    """
    lists = list_of(root, "").parent
    if place_of(lists) != "folder":
        raise UserError(
            f"{root} is not in VOC layout: there is no {lists}; set data.root to the folder that "
            "holds JPEGImages, SegmentationClass and ImageSets"
        )
    train_split = settings.train_split
    if train_split is None:
        train_split = "train_aug" if is_file(list_of(root, "train_aug")) else "train"
    return VocData(
        classes=_class_names(root, settings.classes),
        train=read_split(root, train_split, "data.train_split"),
        val=read_split(root, settings.val_split, "data.val_split"),
        train_split=train_split,
        max_pixels=settings.max_pixels,
        unknown=settings.unknown,
        threads=decoding_workers(settings.workers),
    )


def check_masks(data: VocData) -> list[str]:
    """Read every mask once, before hours of training depend on it.

    Returns:
        Warnings: classes that occur nowhere, and what else may not be as it was meant; each a line.

    Raises:
        UserError: the first mask that cannot be used, and how many more there are.
    """
    examples = list(dict.fromkeys([*data.train, *data.val]))
    with ThreadPoolExecutor(data.threads) as threads:
        looked_at = dict(zip(examples, threads.map(partial(_look_at, data), examples), strict=True))
    problems = [look.problem for look in looked_at.values() if look.problem is not None]
    if problems:
        raise UserError(problems[0] + _and_more(len(problems) - 1, "like it"))
    pixels = np.sum([looked_at[example].pixels for example in data.train], axis=0)
    return [*_missing_classes(pixels, data), *_turned_without_their_masks(looked_at)]


def _missing_classes(pixels_by_label: NDArray[np.int64], data: VocData) -> Iterator[str]:
    """What the labels of all training pixels say about the classes."""
    count = len(data.classes)
    missing = [label for label in range(count) if not pixels_by_label[label]]
    if not missing:
        return
    ignored = pixels_by_label[IGNORED]
    if len(missing) == count:
        yield (
            f"warning: all pixels of {data.train_split} are {IGNORED}, which is ignored, so there "
            f"is nothing to learn: labels are 0 to {count - 1}"
        )
    elif missing == list(range(1, count)) and ignored:
        meant = f"'{data.classes[1]}', save it as 1" if count == 2 else "a class, save its label"
        yield (
            f"warning: the masks of {data.train_split} hold 0 and {IGNORED} alone, and {IGNORED} "
            f"is ignored: if it stands for {meant}"
        )
    else:
        names = ", ".join(f"{data.classes[label]} ({label})" for label in missing[:_SHOWN])
        more = ", and others" if len(missing) > _SHOWN else ""
        yield (
            f"warning: {len(missing)} of {count} classes occur in no mask of {data.train_split}: "
            f"{names}{more}"
        )


def _turned_without_their_masks(looked_at: Mapping[Example, _Look]) -> Iterator[str]:
    turned = [example for example, look in looked_at.items() if look.turned_alone]
    if turned:
        yield (
            f"note: {turned[0].image}{_and_more(len(turned) - 1, 'like it')} is turned upright by "
            "its metadata, and its mask has none: the mask is taken as of the upright photo"
        )


def read_example(example: Example, data: VocData) -> tuple[Tensor, Tensor]:
    """The image, uint8 ``[H, W, 3]`` RGB, and its labels, uint8 ``[H, W]``.

    Raises:
        UserError: one cannot be read, they differ in size, or a label is unknown.
    """
    try:
        image = decode_image(read_file(example.image), data.max_pixels)
    except BadImage as bad:
        raise UserError(_unreadable(example, bad)) from bad
    labels = read_mask(example.mask, len(data.classes), data.unknown)
    if image.shape[:2] != labels.shape:
        raise UserError(_differs(example, (image.shape[0], image.shape[1]), labels.shape))
    return image, labels


def read_mask(path: Path, num_classes: int, unknown: Unknown) -> Tensor:
    """The labels in a mask, turned as a photo of its metadata would be.

    Returns:
        uint8 ``[H, W]``, below ``num_classes`` or 255.

    Raises:
        UserError: it cannot be read, is not a palette or grey PNG, or holds another label.
    """
    try:
        encoded = read_file(path)
    except BadImage as error:
        raise UserError(
            f"the mask {path} {error}: allow it, or take it out of the split"
        ) from error
    labels = orient(torch.from_numpy(_labels(encoded, path)), orientation_of(encoded))
    return _known(labels, path, num_classes, unknown)


def _labels(encoded: bytes, path: Path) -> NDArray[np.uint8]:
    """The values of a mask's pixels, as stored."""
    header = png.read_header(encoded)
    if header is None:
        raise UserError(
            f"the mask {path} cannot be read as PNG, for it is {kind_of(encoded)}: save it as a "
            "palette or grey PNG whose pixel values are the labels"
        )
    if header.colour_type not in (png.GREY, png.PALETTE):
        mode = png.MODES.get(header.colour_type, "unknown")
        raise UserError(
            f"{path} is a mask of mode {mode}, which holds no labels: save it as a palette or grey "
            "PNG whose pixel values are the labels"
        )
    try:
        with Image.open(io.BytesIO(png.without_metadata(encoded)), formats=("PNG",)) as mask:
            values = np.array(mask)
    except Exception as error:  # Pillow raises almost anything on a damaged file.
        raise UserError(
            f"the mask {path} cannot be read as PNG: {_one_line(error)}; save it again, or take it "
            "out of the split"
        ) from error
    if header.bits == 16:
        if values.max(initial=0) > IGNORED:
            raise UserError(
                f"{path} is a 16-bit mask with the value {values.max()}: save it as an 8-bit PNG "
                f"whose values are the labels, {IGNORED} for ignored"
            )
    elif header.colour_type == png.GREY and 1 < header.bits < 8:
        values //= IGNORED // ((1 << header.bits) - 1)  # Pillow spreads them over 0 to 255.
    return values.astype(np.uint8)


def _known(labels: Tensor, path: Path, num_classes: int, unknown: Unknown) -> Tensor:
    """Labels with the unknown ones refused, or made 255."""
    beyond = (labels >= num_classes) & (labels != IGNORED)
    if not beyond.any():
        return labels
    if unknown == "ignore":
        return labels.masked_fill(beyond, IGNORED)
    raise UserError(
        f"{path} holds label {labels[beyond][0]}, but there are {num_classes} classes (labels 0 to "
        f"{num_classes - 1}, and 255 for ignored): name them all in classes.txt or data.classes, "
        "or set data.unknown=ignore"
    )


class _Look(NamedTuple):
    """What a look at a mask, and at the header of its photo, found."""

    problem: str | None
    pixels: NDArray[np.int64]
    """By label, 256 of them."""
    turned_alone: bool
    """Whether the photo's metadata turns it, and nothing the mask."""


def _look_at(data: VocData, example: Example) -> _Look:
    nothing = np.zeros(256, np.int64)
    try:
        labels = read_mask(example.mask, len(data.classes), data.unknown)
        photo = read_file(example.image)
        size = image_size(photo, data.max_pixels)
        if size != labels.shape:
            return _Look(_differs(example, size, labels.shape), nothing, turned_alone=False)
        turned = orientation_of(photo) != UPRIGHT
        alone = turned and orientation_of(read_file(example.mask)) == UPRIGHT
    except UserError as error:
        return _Look(str(error), nothing, turned_alone=False)
    except BadImage as bad:
        return _Look(_unreadable(example, bad), nothing, turned_alone=False)
    return _Look(None, np.bincount(labels.numpy().ravel(), minlength=256), alone)


def _unreadable(example: Example, bad: BadImage) -> str:
    reason = str(bad).removeprefix("cannot be read: ")
    return f"{example.image} cannot be read: {reason}; save it again, or take it out of the split"


def _differs(example: Example, image: tuple[int, int], mask: Sequence[int]) -> str:
    swapped = image == tuple(mask)[::-1]
    hint = ", both turned by their metadata or neither" if swapped else ""
    return (
        f"{example.image} is {image[1]} x {image[0]} pixels, but its mask {example.mask} is "
        f"{mask[1]} x {mask[0]}: they must be of one size{hint}"
    )


def _class_names(root: Path, given: tuple[str, ...] | None) -> tuple[str, ...]:
    """From the setting, else ``classes.txt``, else VOC's own."""
    file = root / "classes.txt"
    names, source = given, "data.classes"
    if names is None and is_file(file):
        names = tuple(line.strip() for line in read_text(file).splitlines())
        names, source = tuple(name for name in names if name), str(file)
    if names is None:
        return VOC_CLASSES
    if not 2 <= len(names) <= IGNORED:
        raise UserError(f"{source} names {len(names)} classes: it needs 2 to {IGNORED}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{source} names the class '{twice}' twice: each needs a name of its own")
    return names


def _and_more(count: int, what: str) -> str:
    return f" (and {count} more {what})" if count else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
