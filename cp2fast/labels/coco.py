"""Segmentations in COCO's JSON format: the files, their images and classes.

    ROOT/annotations/instances_train2017.json   ROOT/train2017/ or ROOT/images/train2017/
    ROOT/train/_annotations.coco.json           beside its images, as Roboflow writes it
    ROOT/annotations/instances_default.json     ROOT/images/, as CVAT writes it
    FILE.json                                   beside its images, or beside the folder images

Format: https://cocodataset.org/#format-data. Pixels outside all annotations are the class
background. Crowds, whose members are not told apart, are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

from cp2fast.config import LabelSettings
from cp2fast.errors import UserError
from cp2fast.files import cannot_read, is_file, list_folder, open_plain, place_of, read_text
from cp2fast.labels.class_files import Declared, DeclaredClass
from cp2fast.labels.dataset import Example
from cp2fast.labels.layout import Layout, named_splits, no_such_split, split_names
from cp2fast.labels.painted import BACKGROUND, CROWD, Annotations, Segment, coco_masks

_NOT_SEGMENTATIONS = ("captions_", "person_keypoints_", "panoptic_", "image_info_", "stuff_")


class _Content(NamedTuple):
    """What a file says."""

    images: dict[Any, Mapping[str, Any]]
    """Images by id."""
    categories: dict[Any, str]
    """Names by number."""
    segments: dict[Any, list[Segment]]
    """Annotations by the id of their image."""
    used: set[int]
    """Categories that have annotations."""


def coco_layout(settings: LabelSettings, root: Path) -> Layout | None:
    """The annotated images of all files found; None if there is no such file.

    Raises:
        UserError: a file is not in COCO's format, its images are missing, two files have different
            categories or one image, files are of several splits, or pycocotools is not installed.
    """
    files = _files(root)
    if not files:
        return None
    coco_masks()
    given = named_splits(settings)
    named = {
        kind: _of_split(root, files, kind, names, kind in given)
        for kind, names in split_names(settings).items()
    }
    for kind, name in given.items():
        if not named[kind]:
            raise no_such_split(kind, name, "JSON file")
    learned = named["train"] or [file for file in files if file not in named["val"]] or files
    scored = [file for file in named["val"] if file not in learned]
    read = {file: _read(file) for file in (*learned, *scored)}
    first = learned[0]
    categories = read[first].categories
    different = next((file for file in read if read[file].categories != categories), None)
    if different is not None:
        raise UserError(
            f"{first} and {different} have different categories: export both with the same ones"
        )
    declared, background = _declared(read, first)
    examples = {
        file: _examples(content, background, file, settings.max_pixels)
        for file, content in read.items()
    }
    seen: dict[Path, Path] = {}
    for file, of_file in examples.items():
        for image in (one.image for one in of_file):
            if image not in seen:
                seen[image] = file
            elif seen[image] == file:
                raise UserError(f"{file} gives several ids to the image {image}: export it again")
            else:
                raise UserError(
                    f"{seen[image]} and {file} both have annotations of {image}, which could be "
                    "learned from and scored on: take one out, or name the other in "
                    "data.train_split"
                )
    train, val = ([one for file in part for one in examples[file]] for part in (learned, scored))
    return Layout("COCO JSON", train, val if scored else None, first.name, declared)


def _files(root: Path) -> list[Path]:
    if root.suffix.lower() == ".json":
        if not is_file(root):
            raise UserError(f"there is no file {root}: set data.root to COCO's JSON, or a folder")
        return [root]
    found = dict.fromkeys(
        path
        for folder in [root, root / "annotations", *list_folder(root)]
        if place_of(folder) == "folder"
        for path in list_folder(folder)
        if path.suffix.lower() == ".json"
        and not path.name.startswith(_NOT_SEGMENTATIONS)
        and _has(path, b'"images"', b'"annotations"', b'"categories"')
    )
    return list(found) if any(_has(path, b'"segmentation"') for path in found) else []


def _has(path: Path, *keys: bytes) -> bool:
    """Whether a file has all these words; in large ones some are at the end alone."""
    if place_of(path) != "file":
        return False
    try:
        with open_plain(path) as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return all(content.find(key) >= 0 for key in keys)
    except ValueError:  # It is empty.
        return False
    except OSError as error:
        raise cannot_read(path, error) from error


def _of_split(
    root: Path, files: Sequence[Path], kind: str, names: Sequence[str], is_given: bool
) -> list[Path]:
    """The files of a split: one of ``names`` is a word of theirs, or of their folder.

    A number may follow, as in ``train2017``. Files of several such words are taken only if the user
    has given the name: those of COCO's years hold the same images.
    """
    one_of = "|".join(map(re.escape, names))
    word = re.compile(rf"(?<![^\W_])(?:{one_of})(?:(?<=\D)\d+)?(?![^\W_])")
    found: dict[Path, str] = {}
    for file in files:
        folder = "" if file.parent == root else file.parent.name
        match = word.search(f"{file.stem}/{folder}".lower())
        if match is not None:
            found[file] = match[0]
    several = sorted(set(found.values()))
    if len(several) > 1 and not is_given:
        raise UserError(
            f"{root} holds JSON files of several splits, {' and '.join(several[:2])}: name one, as "
            f"in data.{kind}_split={several[-1]}"
        )
    return list(found)


def _read(path: Path) -> _Content:
    with _of_coco(path):
        content = json.loads(read_text(path))
        images = {image["id"]: image for image in content["images"]}
        if len(images) < len(content["images"]):
            raise UserError(f"{path} gives one id to several images: export it again")
        categories = {category["id"]: str(category["name"]) for category in content["categories"]}
        beyond = next((one for one in categories if not 0 <= int(one) < BACKGROUND), None)
        if beyond is not None:
            raise UserError(
                f"{path} has a category of the number {beyond}: give it one from 0 to "
                f"{BACKGROUND - 1}"
            )
        segments: dict[Any, list[Segment]] = {}
        for annotation in content["annotations"]:
            segments.setdefault(annotation["image_id"], []).append(_segment(annotation, path))
        if segments and not segments.keys() & images.keys():
            other = repr(next(iter(segments)))[:40]
            raise UserError(
                f"{path} has annotations of the image {other} and others, but all its images have "
                "other ids: export it again"
            )
        used = {segment.stored for of_image in segments.values() for segment in of_image} - {CROWD}
        strange = next((number for number in used if number not in categories), None)
        if strange is not None:
            raise UserError(
                f"{path} has annotations of the category {strange}, which it does not name"
            )
        return _Content(images, categories, segments, used)


def _examples(content: _Content, background: int, path: Path, max_pixels: int) -> list[Example]:
    folders = _folders(path)
    with _of_coco(path):
        return [
            Example(
                _find(str(image["file_name"]), folders, path),
                Annotations(
                    file=path,
                    image=str(image["file_name"]),
                    size=_size(image, path, max_pixels),
                    background=background,
                    segments=tuple(content.segments.get(number, ())),
                ),
            )
            for number, image in content.images.items()
        ]


@contextmanager
def _of_coco(path: Path) -> Iterator[None]:
    """What is not as in COCO's format becomes a UserError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} is not in COCO's format ({' '.join(reason.split())[:120]}): it needs images, "
            "categories and annotations"
        ) from error


def _size(image: Mapping[str, Any], path: Path, max_pixels: int) -> tuple[int, int]:
    """Height and width of an image according to the file."""
    height, width = int(image["height"]), int(image["width"])
    if min(height, width) < 1 or height * width > max_pixels:
        raise UserError(
            f"{path} says that {image['file_name']} has {width} x {height} pixels, but at most "
            f"data.max_pixels={max_pixels} are taken: correct it, or raise data.max_pixels"
        )
    return height, width


def _segment(annotation: Mapping[str, Any], path: Path) -> Segment:
    outline = annotation.get("segmentation")
    if outline is None:
        raise UserError(
            f"{path} has annotations without segmentation, such as boxes alone: export it with "
            "segmentation"
        )
    stored = CROWD if annotation.get("iscrowd") else int(annotation["category_id"])
    return Segment(stored, outline)


def _declared(read: Mapping[Path, _Content], first: Path) -> tuple[Declared, int]:
    """The classes of files of equal categories, and the value stored outside all annotations."""
    categories = read[first].categories
    used = set[int]().union(*(content.used for content in read.values()))
    if 0 in categories and 0 not in used and len(categories) > 1:
        # Roboflow's first category is the group that contains the others.
        categories = {number: name for number, name in categories.items() if number != 0}
    background = BACKGROUND if 0 in categories else 0
    classes = [DeclaredClass(name, int(number)) for number, name in categories.items()]
    named = [number for number, name in categories.items() if name.lower() == "background"]
    if named:
        background = int(named[0])
    else:
        classes.insert(0, DeclaredClass("background", background))
    return Declared(tuple(classes), str(first), ignored=(CROWD,)), background


def _folders(path: Path) -> list[Path]:
    """Where the images of a file may be: beside it, or in a folder with one of the usual names."""
    split, above = path.stem.split("_", 1)[-1], path.parent.parent
    names = (split, f"images/{split}", "images", "images/default", "data", "")
    return [path.parent, path.parent / "images", *(above / name for name in names)]


def _find(name: str, folders: list[Path], path: Path) -> Path:
    """The image of this name; its folder comes first from then on, as others are there too."""
    for place, folder in enumerate(folders):
        if place_of(folder / name) == "file":
            folders.insert(0, folders.pop(place))
            return folder / name
    shown = ", ".join(map(str, folders[:4]))
    raise UserError(f"{path} names the image {name}, which is in none of {shown}: put it there")
