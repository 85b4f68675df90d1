"""Pairs of images and masks listed in a CSV file.

image,mask[,split]          header, columns in any order; may be absent
photos/a.jpg,masks/a.png    paths relative to the file's folder, or absolute
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cp2fast.config import LabelSettings
from cp2fast.errors import UserError
from cp2fast.files import is_file, list_folder, place_of
from cp2fast.labels.dataset import Example
from cp2fast.labels.layout import TRAIN_NAMES, Layout, split_by_words, split_names
from cp2fast.labels.masks import SUFFIXES
from cp2fast.labels.rows import column, first_rows, read_rows

_IMAGE = ("image", "images", "image_path", "img", "photo", "file", "filename", "path", "image path")
_MASK = ("mask", "masks", "mask_path", "label", "labels", "label_path", "annotation", "mask path")
_SPLIT = ("split", "subset", "set", "fold")
_WHOLE = ("pairs", "data", "dataset")
"""Names of a file of both splits."""
_NO_HEADER = 0, 1, 2
"""Columns of image, mask and split in a file without a header."""


def csv_layout(settings: LabelSettings, root: Path) -> Layout | None:
    """Pairs of ``root`` itself, or of ``train.csv`` (and ``val.csv``) or ``pairs.csv`` in it.

    Raises:
        UserError: a listed file is missing, a line does not name a pair, or a split that was named
            is not there.
    """
    if root.suffix.lower() == ".csv":
        return _one(settings, root)
    train, val = (_first(root, names) for names in split_names(settings).values())
    if train is not None and val is not None:
        learned, scored = ([example for example, _ in _read(path)] for path in (train, val))
        return Layout("CSV of pairs", learned, scored, train.name)
    one = train or _first(root, (*TRAIN_NAMES, *_WHOLE))
    return None if one is None else _one(settings, one)


def _first(root: Path, names: Sequence[str]) -> Path | None:
    inside = {path.name.lower(): path for path in list_folder(root) if path.suffix}
    files = (inside.get(f"{name}.csv") for name in names)
    return next((file for file in files if file is not None and _lists_pairs(file)), None)


def _lists_pairs(path: Path) -> bool:
    """Whether the first lines name a mask; other tables, such as of run lengths, lie there too."""
    if not _is(path):
        return False
    rows = [row for _, row in first_rows(path)[:2]]
    _, mask, _ = (_columns(rows[0]) if rows else None) or _NO_HEADER
    return any(len(row) > mask and row[mask].lower().endswith(SUFFIXES) for row in rows)


def _is(path: Path) -> bool:
    return place_of(path) == "file"


def _one(settings: LabelSettings, path: Path) -> Layout:
    named = ((example, (split,)) for example, split in _read(path))
    train, val, _ = split_by_words(named, settings, "CSV file and no row of the column split")
    return Layout("CSV of pairs", train, val, path.name)


def _read(path: Path) -> list[tuple[Example, str]]:
    """The examples in a file, each with its split: without such a column the file's own name."""
    if not is_file(path):
        raise UserError(f"there is no file {path}: set data.root to a CSV of pairs, or a folder")
    numbered = read_rows(path)
    if not numbered:
        raise UserError(f"{path} names no image: it needs image,mask per line")
    columns = _columns(numbered[0][1])
    if columns is not None:
        numbered = numbered[1:]
    image, mask, split = columns or _NO_HEADER
    found = [_example(path, number, row, image, mask, split) for number, row in numbered]
    if not found:
        raise UserError(f"{path} names no image below its header: it needs image,mask per line")
    return found


def _columns(header: Sequence[str]) -> tuple[int, int, int | None] | None:
    """The columns of image, mask and split; None if this is no header of image and mask."""
    head = [cell.lower() for cell in header]
    image, mask, split = (column(head, names) for names in (_IMAGE, _MASK, _SPLIT))
    return None if image is None or mask is None else (image, mask, split)


def _example(
    path: Path, number: int, row: Sequence[str], image: int, mask: int, split: int | None
) -> tuple[Example, str]:
    if len(row) <= max(image, mask) or not row[image] or not row[mask]:
        raise UserError(f"{path}, line {number}: '{','.join(row)[:80]}' is not image,mask")
    files = [path.parent / row[place] for place in (image, mask)]
    for file in files:
        if not _is(file):
            raise UserError(f"{path}, line {number}: there is no file {file}: correct its path")
    kind = row[split] if split is not None and split < len(row) else path.stem
    return Example(files[0], files[1]), kind
