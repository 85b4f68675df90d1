"""Class files that data sets and labelling tools put beside their masks.

| file | written by | a line |
|---|---|---|
| classes.txt | cp2fast, YOLO tools | name |
| class_names.txt | Labelme | name, ``_background_`` first |
| labelmap.txt | CVAT, Datumaro | ``name:r,g,b:parts:actions`` |
| classes.csv, class_dict.csv | CamVid, cp2fast | columns of a header: value, name, r, g, b |
| objectInfo150.txt | ADE20K | ``index ratio train val stuff name``, tabs between |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cp2fast.config import Rgb, rgb_of
from cp2fast.errors import UserError
from cp2fast.files import is_file, read_text
from cp2fast.labels.rows import column, read_rows

_MOST_DIGITS = 9
_LABELMAP_LINE = re.compile(r"(.+?):(?:(\d{1,3}),(\d{1,3}),(\d{1,3}))?(?::[^:]*){0,2}")


@dataclass(frozen=True)
class DeclaredClass:
    """A class as declared, before any merging."""

    name: str
    value: int | None = None
    """Number stored in masks of numbers; None means the class's place in the list."""
    colour: Rgb | None = None
    """Colour stored in masks of colours, if known."""


@dataclass(frozen=True)
class Declared:
    """The declared classes of a data set."""

    classes: tuple[DeclaredClass, ...]
    source: str
    """What declares them, for messages."""
    ignored: tuple[int, ...] = ()
    """Stored values to ignore, besides 255."""
    others_ignored: bool = False
    """Whether all other stored values are ignored too."""

    @property
    def has_colours(self) -> bool:
        """Whether every class has a colour."""
        return all(declared.colour is not None for declared in self.classes)

    def coloured(self, colours: Sequence[Rgb] | dict[str, Rgb]) -> Declared:
        """The same classes with these colours.

        Raises:
            UserError: too few or too many colours, or names that are not classes.
        """
        names = [declared.name for declared in self.classes]
        if isinstance(colours, dict):
            strange = next((name for name in colours if name not in names), None)
            if strange is not None:
                raise UserError(
                    f"data.colours names the class '{strange}', but {self.source} has "
                    f"{', '.join(names)}: use one of its names"
                )
            found = [colours.get(name) for name in names]
        else:
            found = list(colours)
        if len(found) != len(names):
            raise UserError(
                f"data.colours has {len(found)} colours, but {self.source} {len(names)} classes: "
                "give each class one"
            )
        classes = zip(self.classes, found, strict=True)
        return replace(
            self, classes=tuple(replace(one, colour=c or one.colour) for one, c in classes)
        )


def read_class_file(root: Path) -> Declared | None:
    """Read the first known class file in a folder; None if there is none.

    Raises:
        UserError: the file does not have the format that its name implies.
    """
    for name, read in _FILES.items():
        path = root / name
        if is_file(path):
            classes = tuple(read(path))
            if classes:
                ignored = (0,) if name == "objectInfo150.txt" else ()
                return Declared(classes, str(path), ignored)
    return None


def _names(path: Path) -> list[DeclaredClass]:
    lines = (line.strip() for line in read_text(path).splitlines())
    return [DeclaredClass(line) for line in lines if line and line != "__ignore__"]


def _labelmap(path: Path) -> list[DeclaredClass]:
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LABELMAP_LINE.fullmatch(text)
        if match is None:
            raise UserError(f"{path}, line {number}: '{text[:60]}' is not name:r,g,b:parts:actions")
        colour = None if match[2] is None else _colour(path, number, match.groups()[1:4])
        found.append(DeclaredClass(match[1].strip(), colour=colour))
    return found


def _table(path: Path) -> list[DeclaredClass]:
    """Read a CSV file; without a header its columns are the name and the colour."""
    rows = [row for _, row in read_rows(path)]
    if not rows:
        return []
    head = [cell.lower() for cell in rows[0]]
    places = {
        "name": column(head, ("name", "class", "label", "class_name")),
        "value": column(head, ("value", "id", "index", "pixel value")),
        "r": column(head, ("r", "red")),
        "g": column(head, ("g", "green")),
        "b": column(head, ("b", "blue")),
        "colour": column(head, ("colour", "color", "hex", "rgb")),
    }
    if places["name"] is None:
        width = len(rows[0])
        places = {"name": 0, "colour": 1} if width == 2 else {"name": 0}
        places |= {"r": 1, "g": 2, "b": 3} if width >= 4 else {}
    else:
        rows = rows[1:]
    return [_of_row(path, number, row, places) for number, row in enumerate(rows, 1)]


def _of_row(
    path: Path, number: int, row: Sequence[str], places: Mapping[str, int | None]
) -> DeclaredClass:
    def cell(name: str) -> str:
        place = places.get(name)
        return row[place] if place is not None and place < len(row) else ""

    value, colour = cell("value"), None
    if value and not (value.isdecimal() and len(value) <= _MOST_DIGITS):
        raise UserError(
            f"{path}, class {number}: the value '{value[:40]}' is not a whole number of a mask"
        )
    if cell("r"):
        colour = _colour(path, number, (cell("r"), cell("g"), cell("b")))
    elif cell("colour"):
        colour = rgb_of(cell("colour")) or _colour(path, number, cell("colour").split())
    return DeclaredClass(cell("name"), int(value) if value else None, colour)


def _ade(path: Path) -> list[DeclaredClass]:
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        cells = re.split(r"\t+|\s{2,}", line.strip())
        if not cells[0].isdecimal():
            continue  # the header
        if len(cells) < 2:
            raise UserError(f"{path}, line {number}: '{line[:60]}' names no class")
        name = cells[-1].split(",")[0].strip()
        found.append(DeclaredClass(name, value=int(cells[0])))
    return found


def _colour(path: Path, number: int, parts: Sequence[str | None]) -> Rgb:
    values = [int(part) for part in parts if part is not None and part.strip().isdecimal()]
    if len(values) != 3 or max(values) > 255:
        shown = ",".join(str(part) for part in parts)
        raise UserError(
            f"{path}, class {number}: '{shown}' is not a colour of red, green and blue, each 0 to "
            "255"
        )
    return values[0], values[1], values[2]


_FILES: dict[str, Callable[[Path], list[DeclaredClass]]] = {
    "classes.csv": _table,
    "class_dict.csv": _table,
    "labelmap.txt": _labelmap,
    "classes.txt": _names,
    "class_names.txt": _names,
    "objectInfo150.txt": _ade,
}
"""In order of precedence: files with colours come before files with names only."""
