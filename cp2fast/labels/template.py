"""Masks found by a user's rule, such as ``data.masks={dir}/../labels/{stem}_mask.png``."""

from __future__ import annotations

import os
import string
from pathlib import Path

from cp2fast.config import LabelSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.errors import UserError
from cp2fast.files import place_of
from cp2fast.labels.dataset import Example
from cp2fast.labels.layout import Layout, refuse_shared_masks, split_by_folder

_FIELDS = ("dir", "stem", "name", "root", "parent")


def template_layout(settings: LabelSettings, root: Path) -> Layout | None:
    """Every image below ``root`` with its mask according to the rule; None without a rule.

    Fields of the rule: ``{dir}`` is the image's folder, ``{stem}`` its name without suffix,
    ``{name}`` its name with suffix, ``{parent}`` the name of its folder, ``{root}`` the data set.
    A rule that does not begin with ``{dir}``, ``{root}`` or ``/`` is relative to the data set.

    Raises:
        UserError: unknown field, images without masks or with the same, no images, or ``root`` is
            no folder.
    """
    rule = settings.masks
    if rule is None:
        return None
    _check(rule)
    root = Path(os.path.normpath(root))  # as are the masks, which are looked for among the images
    if place_of(root) != "folder":
        raise UserError(
            f"data.masks={rule} needs a folder of images on this machine, which {root} is not: "
            "name one in data.root"
        )
    images = list_images(root)
    if images.kind != "folder":
        raise UserError(f"data.masks={rule} needs a folder of images, but {root} is of shards")
    found = [Path(images.name(number)) for number in range(len(images))]
    masks = {image: _mask(rule, image, root) for image in found}
    there = {image for image, mask in masks.items() if place_of(mask) == "file"}
    are_masks = {masks[image] for image in there}
    photos = [image for image in found if image not in are_masks]
    missing = [image for image in photos if image not in there]
    if missing:
        raise UserError(
            f"there is no mask {masks[missing[0]]} ({len(missing)} of {len(photos)} photos have "
            f"none by data.masks={rule}): correct the rule, or take the photos out"
        )
    examples = [Example(image, masks[image]) for image in photos]
    refuse_shared_masks(examples)
    train, val, split = split_by_folder(examples, root, settings)
    return Layout("masks by data.masks", train, val, split)


def _check(rule: str) -> None:
    try:
        parts = [part for part in string.Formatter().parse(rule) if part[1] is not None]
    except ValueError as error:
        raise UserError(f"data.masks={rule} cannot be read: {error}") from error
    fields = [f"{field}:{spec or how}" if spec or how else field for _, field, spec, how in parts]
    strange = next((field for field in fields if field not in _FIELDS), None)
    if strange is not None:
        raise UserError(
            f"data.masks={rule} has {{{strange}}}: it takes "
            "{dir}, {stem}, {name}, {parent} and {root}"
        )
    if "stem" not in fields and "name" not in fields:
        raise UserError(
            f"data.masks={rule} names one mask for all images of a folder: it needs {{stem}} or "
            "{name}"
        )


def _mask(rule: str, image: Path, root: Path) -> Path:
    text = rule.format(
        dir=image.parent, stem=image.stem, name=image.name, root=root, parent=image.parent.name
    )
    path = Path(text)
    below = path if path.is_absolute() or rule.startswith(("{dir}", "{root}")) else root / path
    return Path(os.path.normpath(below))
