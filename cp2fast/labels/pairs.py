"""Images and masks in folders, paired by their names.

    ROOT/images/NAME.jpg        ROOT/masks/NAME.png          or labels, annotations, ...
    ROOT/images/train/...       ROOT/masks/train/...         and val; folders of any depth
    ROOT/train/images/...       ROOT/train/masks/...         and val
    ROOT/train/NAME.jpg         ROOT/train_labels/NAME_L.png and val

A mask has the name of its image, possibly with an ending, as in ``NAME_mask.png``; Cityscapes
replaces one ending with another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cp2fast.config import LabelSettings
from cp2fast.data.decoding.formats import IMAGE_SUFFIXES
from cp2fast.data.image_sets.walk import files_below
from cp2fast.errors import UserError
from cp2fast.files import cannot_read, list_folder, place_of
from cp2fast.labels.dataset import Example
from cp2fast.labels.known import known_classes
from cp2fast.labels.layout import (
    Layout,
    named_splits,
    no_such_split,
    refuse_shared_masks,
    split_by_folder,
    split_names,
)
from cp2fast.labels.masks import SUFFIXES as MASK_SUFFIXES

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos", "leftimg8bit", "rgb")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentationclasspng"),
    *("segmentationclass", "gtfine", "gt", "groundtruth", "ground_truth", "segmentation"),
)
"""Folder names in lower case; the first that exists and contains masks is used."""

_ENDINGS = {
    "": (
        *("", "_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation", "_L"),
        *("_annotation", "_lab", "_colour", "_color", "-mask", "_labelIds", "_train_id"),
    ),
    "_leftImg8bit": ("_gtFine_labelIds", "_gtFine_labelTrainIds", "_gtFine_color"),
    "_image": ("_mask", "_label"),
    "_img": ("_mask", "_label"),
    "_sat": ("_mask",),
    "_rgb": ("_mask", "_label"),
}
"""Possible endings of mask names by the ending of the image name."""
_UNLABELLED = ("test", "testing")
"""Folders whose images often have no masks and are then left out."""
_MASK_OF_SPLIT = ("{}_labels", "{}_masks", "{}_label", "{}_mask", "{}annot", "{}_annot")


def folders_layout(settings: LabelSettings, root: Path) -> Layout | None:
    """Images and masks in two folders, or in two per split; None if there are no such folders.

    Raises:
        UserError: images without masks, or that match masks in more than one way.
    """
    folders = _folders(root)
    if folders is None:
        return _split_layout(settings, root)
    examples = pair(*folders)
    train, val, split = split_by_folder(examples, root, settings)
    masks = [example.mask for example in examples if isinstance(example.mask, Path)]
    known = known_classes(root, masks)
    where = " and ".join(str(folder.relative_to(root)) for folder in folders)
    return Layout(
        name=f"folders {where}" if known is None else known.name,
        train=train,
        val=val,
        train_split=split,
        declared=None if known is None else known.declared,
    )


def _split_layout(settings: LabelSettings, root: Path) -> Layout | None:
    """Folders of splits that contain two folders each, or have folders of masks beside them.

    Raises:
        UserError: a split that was named has no such folders, or there is none to learn from.
    """
    inside, given = _by_name(root), named_splits(settings)
    found: dict[str, tuple[str, list[Example]]] = {}
    for kind, names in split_names(settings).items():
        name = next((inside[name] for name in names if name in inside), None)
        folders = None if name is None else _folders(root / name) or _beside(root, name, inside)
        if name is not None and folders is not None:
            found[kind] = name, pair(*folders)
        elif inside and kind in given:
            raise no_such_split(kind, given[kind], "folder of images with masks")
    if not found:
        return None
    if "val" in given and "train" not in found:
        raise UserError(
            f"data.val_split={given['val']}: {root} has no folder train to learn from: name one in "
            "data.train_split"
        )
    first, *others = found.values()
    return Layout(
        name=f"folders {', '.join(name for name, _ in found.values())}",
        train=first[1],
        val=others[0][1] if others else None,
        train_split=first[0],
    )


def pair(images: Path, masks: Path) -> list[Example]:
    """Pair the images below one folder with the masks below another, sorted by name.

    Raises:
        UserError: there are no images, or an image matches no mask or two.
    """
    photos = _files(images, IMAGE_SUFFIXES)
    found = _files(masks, MASK_SUFFIXES)
    if not photos:
        raise UserError(
            f"{images} holds no images: it needs images, such as .jpg, .png or .tif files"
        )
    by_place = _by_place(masks, found)
    rule = _rule(images, photos, by_place)
    if rule is None:
        shown = found[0].name if found else "nothing"
        raise UserError(
            f"no mask in {masks} goes by the name of an image in {images} ({photos[0].name} there, "
            f"{shown} here): name where they are, as in data.masks="
            "{dir}/../labels/{stem}_mask.png"
        )
    return _paired(images, masks, photos, by_place, rule)


def _paired(
    images: Path,
    masks: Path,
    photos: Sequence[Path],
    by_place: Mapping[tuple[Path, str], list[Path]],
    rule: tuple[str, str],
) -> list[Example]:
    examples, missing = [], list[Path]()
    for photo in photos:
        place = photo.parent.relative_to(images)
        stem = photo.stem.removesuffix(rule[0]) + rule[1]
        candidates = by_place.get((place, stem), [])
        if not candidates:
            if not any(part.lower() in _UNLABELLED for part in place.parts):
                missing.append(masks / place / f"{stem}.png")
            continue
        if len(candidates) > 1:
            raise UserError(
                f"{photo} goes together with {candidates[0]} and {candidates[1].name}: keep one"
            )
        examples.append(Example(photo, candidates[0]))
    if missing:
        raise UserError(
            f"there is no mask {missing[0]} ({len(missing)} of {len(photos)} photos have none): "
            "add them, or take the photos out"
        )
    refuse_shared_masks(examples)
    return examples


def _rule(
    images: Path, photos: Sequence[Path], by_place: Mapping[tuple[Path, str], list[Path]]
) -> tuple[str, str] | None:
    """The endings of images and masks that match the most pairs; None if none match."""
    counts = Counter[tuple[str, str]]()
    for own, others in _ENDINGS.items():
        named = [photo for photo in photos if photo.stem.endswith(own)]
        places = [(p.parent.relative_to(images), p.stem.removesuffix(own)) for p in named]
        for other in others:
            counts[own, other] = sum((folder, stem + other) in by_place for folder, stem in places)
            if counts[own, other] == len(photos):
                return own, other
    rule, count = max(counts.items(), key=lambda item: item[1])
    return rule if count else None


def _by_place(folder: Path, files: Sequence[Path]) -> dict[tuple[Path, str], list[Path]]:
    """Files by their folder, relative to ``folder``, and their name without suffix."""
    found: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        found.setdefault((file.parent.relative_to(folder), file.stem), []).append(file)
    return found


def _folders(root: Path) -> tuple[Path, Path] | None:
    """A folder of images and one that holds masks inside ``root``; None unless both exist."""
    inside = _by_name(root)
    images = next((root / inside[name] for name in IMAGE_FOLDERS if name in inside), None)
    masks = (root / inside[name] for name in MASK_FOLDERS if images and name in inside)
    holding = next((folder for folder in masks if _files(folder, MASK_SUFFIXES)), None)
    return None if images is None or holding is None else (images, holding)


def _beside(root: Path, split: str, inside: Mapping[str, str]) -> tuple[Path, Path] | None:
    """The folder of a split, and the folder of its masks beside it, such as ``train_labels``."""
    wanted = (name.format(split.lower()) for name in _MASK_OF_SPLIT)
    masks = next((inside[name] for name in wanted if name in inside), None)
    return None if masks is None else (root / split, root / masks)


def _by_name(root: Path) -> dict[str, str]:
    """The folders inside ``root``, by their names in lower case."""
    return {
        path.name.lower(): path.name for path in list_folder(root) if place_of(path) == "folder"
    }


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files with these suffixes below a folder, sorted; hidden files are skipped."""

    def refuse(place: str, error: OSError) -> None:
        raise cannot_read(Path(place), error)

    return sorted(
        Path(place, entry.name)
        for place, entry in files_below(str(folder), refuse)
        if entry is not None and entry.name.lower().endswith(tuple(suffixes))
    )
