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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

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
from cp2fast.data.orientation import orient, orientation_of
from cp2fast.errors import UserError

IGNORED = 255
"""The label of pixels that count neither in the loss nor in the evaluation."""

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)

_MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

Unknown = Literal["refuse", "ignore"]


@dataclass(frozen=True)
class Example:
    """A photo and its mask."""

    image: Path
    mask: Path


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
    lists = root / "ImageSets" / "Segmentation"
    if not lists.is_dir():
        raise UserError(
            f"{root} is not in VOC layout: there is no {lists}; set data.root to the folder that "
            "holds JPEGImages, SegmentationClass and ImageSets"
        )
    train_split = settings.train_split
    if train_split is None:
        train_split = "train_aug" if (lists / "train_aug.txt").is_file() else "train"
    return VocData(
        classes=_class_names(root, settings.classes),
        train=_read_split(root, train_split, "data.train_split"),
        val=_read_split(root, settings.val_split, "data.val_split"),
        train_split=train_split,
        max_pixels=settings.max_pixels,
        unknown=settings.unknown,
        threads=decoding_workers(settings.workers),
    )


def check_masks(data: VocData) -> None:
    """Read every mask once, before hours of training depend on it.

    Raises:
        UserError: the first mask that cannot be used, and how many more there are.
    """
    examples = list(dict.fromkeys([*data.train, *data.val]))
    with ThreadPoolExecutor(data.threads) as threads:
        found = threads.map(partial(_problem, data), examples)
        problems = [problem for problem in found if problem is not None]
    if problems:
        raise UserError(problems[0] + _and_more(len(problems) - 1, "like it"))


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


def _problem(data: VocData, example: Example) -> str | None:
    """What is wrong with an example, by its mask and the image's header."""
    try:
        labels = read_mask(example.mask, len(data.classes), data.unknown)
    except UserError as error:
        return str(error)
    try:
        size = image_size(read_file(example.image), data.max_pixels)
    except BadImage as bad:
        return _unreadable(example, bad)
    return None if size == labels.shape else _differs(example, size, labels.shape)


def _unreadable(example: Example, bad: BadImage) -> str:
    reason = str(bad).removeprefix("cannot be read: ")
    return f"{example.image} cannot be read: {reason}; save it again, or take it out of the split"


def _differs(example: Example, image: tuple[int, int], mask: Sequence[int]) -> str:
    return (
        f"{example.image} is {image[1]} x {image[0]} pixels, but its mask {example.mask} is "
        f"{mask[1]} x {mask[0]}: they must be of one size"
    )


def _class_names(root: Path, given: tuple[str, ...] | None) -> tuple[str, ...]:
    """From the setting, else ``classes.txt``, else VOC's own."""
    file = root / "classes.txt"
    names, source = given, "data.classes"
    if names is None and file.is_file():
        names = tuple(line.strip() for line in file.read_text("utf-8").splitlines())
        names, source = tuple(name for name in names if name), str(file)
    if names is None:
        return VOC_CLASSES
    if not 2 <= len(names) <= IGNORED:
        raise UserError(f"{source} names {len(names)} classes: it needs 2 to {IGNORED}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{source} names the class '{twice}' twice: each needs a name of its own")
    return names


def _read_split(root: Path, split: str, key: str) -> list[Example]:
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.txt"))) or "none"
        raise UserError(f"there is no split {path}: set {key} to one of those there ({there})")
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    names = [line for line in lines if line]
    if not names:
        raise UserError(f"{path} names no image: it needs one name a line")
    examples, missing = [], list[str]()
    for name in names:
        image, mask = _photo(root, name), _mask(root, name)
        if image is None:
            missing.append(f"'{name}', but there is no image {root / 'JPEGImages' / name}.jpg")
        elif mask is None:
            missing.append(f"'{name}', but there is no mask {root / _MASK_FOLDERS[-1] / name}.png")
        else:
            examples.append(Example(image, mask))
    if missing:
        others = _and_more(len(missing) - 1, "missing")
        raise UserError(f"{path} names {missing[0]}{others}: add them or shorten the split")
    return examples


def _photo(root: Path, name: str) -> Path | None:
    found = (root / "JPEGImages" / f"{name}{suffix}" for suffix in _PHOTO_SUFFIXES)
    return next((path for path in found if path.is_file()), None)


def _mask(root: Path, name: str) -> Path | None:
    found = (root / folder / f"{name}.png" for folder in _MASK_FOLDERS)
    return next((path for path in found if path.is_file()), None)


def _and_more(count: int, what: str) -> str:
    return f" (and {count} more {what})" if count else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
