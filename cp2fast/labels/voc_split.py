"""The split lists of data sets in VOC layout, in the variants that tools write.

A line names a photo in one of these ways; the first that finds a photo is used:

    NAME                                   for JPEGImages/NAME.jpg and its mask
    NAME LABEL                             as in VOC's lists of one class
    NAME.jpg, JPEGImages/NAME.jpg          with a suffix, or below any folder
    JPEGImages/NAME.jpg FOLDER/NAME.png    with its mask, separated by blanks or a comma
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from cp2fast.data.decoding.formats import IMAGE_SUFFIXES
from cp2fast.errors import UserError
from cp2fast.files import cannot_read, is_file, read_text
from cp2fast.labels.dataset import Example

PHOTOS = "JPEGImages"
MASKS = ("SegmentationClassAug", "SegmentationClass")
"""Folders of masks; the first with a mask for the photo is used."""

_LISTS = Path("ImageSets", "Segmentation")
_MASK_SUFFIXES = (".png",)
_PAIR = re.compile(r"(.+\.(?:jpe?g|png|webp))[\s,]+(.+\.png)", re.IGNORECASE)
_LABELLED = re.compile(r"(.+?)[\s,]+-?\d+")
_MOST_SHOWN = 60
"""How many characters of a line a message quotes."""


def list_of(root: Path, split: str) -> Path:
    """The list file of a split."""
    return root / _LISTS / f"{split}.txt"


def read_split(root: Path, split: str, key: str) -> list[Example]:
    """The examples of a split, which the setting ``key`` names, in the order of its list.

    Raises:
        UserError: the split does not exist, is empty, or names missing files.
    """
    path = list_of(root, split)
    if not is_file(path):
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.txt"))) or "none"
        raise UserError(f"there is no split {path}: set {key} to one of those there ({there})")
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{path} names no image: it needs one name per line")
    files = _Files(root)
    examples, missing = [], list[str]()
    for line in lines:
        found = files.example(line)
        if isinstance(found, Example):
            examples.append(found)
        else:
            missing.append(f"'{line[:_MOST_SHOWN]}', but {found}")
    if missing:
        others = f" (and {len(missing) - 1} more missing)" if len(missing) > 1 else ""
        raise UserError(f"{path} names {missing[0]}{others}: add them or shorten the split")
    return examples


class _Files:
    """Finds files of a data set by name, however suffix and accents are written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._inside = cache(_inside)  # Each folder is listed once per object.

    def example(self, line: str) -> Example | str:
        """The example that a line names, or a description of what is missing."""
        for name, mask in _readings(line):
            image = self._photo(name)
            if image is not None:
                labels = self._mask(name, mask)
                if labels is not None:
                    return Example(image, labels)
                wanted = mask or f"{MASKS[-1]}/{_without_suffix(_below_photos(name))}.png"
                return f"there is no mask {self._root / wanted}"
        wanted = f"{self._root / PHOTOS / line[:_MOST_SHOWN]}.jpg"
        return f"there is no image {wanted}{self._other(line)}"

    def _photo(self, name: str) -> Path | None:
        inside, suffix = _below_photos(name), _suffix(name)
        places = [(PHOTOS, inside, IMAGE_SUFFIXES)]
        if suffix:
            places.append((PHOTOS, _without_suffix(inside), (suffix, *IMAGE_SUFFIXES)))
            places.append(("", _without_suffix(name), (suffix,)))
        return next((found for place in places if (found := self._find(*place))), None)

    def _mask(self, name: str, given: str | None) -> Path | None:
        if given is not None:
            there = self._find("", _without_suffix(given), _MASK_SUFFIXES)
            if there is not None:
                return there
            name = given.lstrip("/").partition("/")[2] or given  # below the first folder
        stems = dict.fromkeys((_below_photos(name), _without_suffix(_below_photos(name))))
        found = (self._find(folder, stem, _MASK_SUFFIXES) for stem in stems for folder in MASKS)
        return next((path for path in found if path is not None), None)

    def _find(self, folder: str, name: str, suffixes: Sequence[str]) -> Path | None:
        """The file with this name below a folder of the data set; the first suffix found wins."""
        path = self._root / folder / name.lstrip("/")
        there = self._inside(path.parent)
        keys = ((_composed(path.name), suffix) for suffix in suffixes)
        return next((path.parent / there[key] for key in keys if key in there), None)

    def _other(self, line: str) -> str:
        """A file with the name but a suffix that no photo has, for the message."""
        path = self._root / PHOTOS / line
        there = self._inside(path.parent)
        others = [actual for (stem, _), actual in there.items() if stem == _composed(path.name)]
        return f" (there is {others[0]}, which is no photo by its name)" if others else ""


def _readings(line: str) -> Iterator[tuple[str, str | None]]:
    """Possible readings of a line: a photo, and its mask if named; most likely first."""
    yield line, None
    pair = _PAIR.fullmatch(line)
    if pair is not None:
        yield pair[1], pair[2]
    labelled = _LABELLED.fullmatch(line)
    if labelled is not None:
        yield labelled[1], None


def _inside(folder: Path) -> dict[tuple[str, str], str]:
    """Files of a folder: the actual name, by name without suffix and suffix in lower case."""
    try:
        # If two names differ only in case, the one in lower case sorts last and is kept.
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    except OSError as error:
        raise cannot_read(folder, error) from error
    split = ((os.path.splitext(name), name) for name in names)
    return {(_composed(stem), suffix.lower()): name for (stem, suffix), name in split}


def _composed(name: str) -> str:
    """The name with composed accents, as most systems write them; some decompose them."""
    return unicodedata.normalize("NFC", name)


def _below_photos(name: str) -> str:
    """The part of a path after the folder of photos."""
    return name.rpartition(f"{PHOTOS}/")[2].lstrip("/")


def _suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else ""


def _without_suffix(name: str) -> str:
    suffix = _suffix(name)
    return name[: -len(suffix)] if suffix else name
