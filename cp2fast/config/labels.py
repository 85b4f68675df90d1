"""Settings of images with masks: where they are, and what their masks stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from cp2fast.config.section import Bands, RangeSetting, Section
from cp2fast.errors import UserError

Rgb = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

_HEXADECIMAL = re.compile(r"#?([0-9a-fA-F]{6})")
_CLASS_KEYS = ("names", "colours", "merge", "ignore", "shift")


class ClassSettings(Section):
    """``data.classes`` in full; numbers are what masks store, names are classes'."""

    names: tuple[str, ...] | dict[int, str] | None = Field(
        None, description="class names in the order of the labels, or {stored value: name}"
    )
    colours: tuple[Rgb, ...] | dict[str, Rgb] | None = Field(
        None, description="as data.colours, which it overrides"
    )
    merge: dict[str, tuple[int | str, ...]] = Field(
        default_factory=dict,
        description="{class: [stored values or names of classes]}, which become that class",
    )
    ignore: tuple[int | str, ...] = Field(
        (), description="stored values, or names or colours of classes, to ignore"
    )
    shift: int = Field(
        0, description="added to a stored value to give its label; what falls below 0 is ignored"
    )


class LabelSettings(Section):
    """Images with masks, in any of the layouts that are known (docs/labels.md)."""

    root: Path | None = Field(
        None,
        description="images with masks: folder in VOC layout or of images and masks, CSV of "
        "pairs, or COCO's JSON (docs/labels.md)",
    )
    masks: str | None = Field(
        None,
        description="path of an image's mask, such as {dir}/../labels/{stem}_mask.png; none: found "
        "automatically",
    )
    train_split: str | None = Field(
        None,
        description="list or folder to train on; none: train_aug if it exists, else train",
    )
    val_split: str = Field("val", description="list or folder to evaluate on")
    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the images to evaluate on, if the data has no split"
    )
    val_seed: int = Field(0, ge=0, description="seed that selects this share")
    classes: tuple[str, ...] | ClassSettings | None = Field(
        None,
        description="names by label, or a mapping of names, colours, merge, ignore and shift; "
        "none: from files beside the data, else VOC's 21 in VOC layout and numbers elsewhere",
    )
    colours: tuple[Rgb, ...] | dict[str, Rgb] | None = Field(
        None,
        description="red, green, blue of each class, by label or as {name: [r, g, b]}; none: from "
        "classes.csv or labelmap.txt",
    )
    nearest: Literal["off", "on"] = Field(
        "off",
        description="give colours that are nearly a class's to that class, as JPEG masks need",
    )
    unknown: Literal["refuse", "ignore"] = Field(
        "refuse", description="what to do with labels beyond the classes; 255 is always ignored"
    )
    max_pixels: int = Field(
        100_000_000, gt=0, description="an image of more pixels is refused as a bad file"
    )
    range: RangeSetting | None = Field(
        None,
        description="which values of 16-bit, float and DICOM images become black and white, as in "
        "pretraining: LOW,HIGH, type or auto; none: that of the run started from, else auto",
    )
    bands: Bands | None = Field(
        None,
        description="list of three bands, or of one, counted from 1; none: as in the run started "
        "from, else what the file says",
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_in_full(cls, value: object) -> object:
        """Accept names by stored value too, as in ``{0: sky, 3: road}``."""
        if not isinstance(value, Mapping):
            return value
        if value and all(_is_whole(key) for key in value):
            return _by_value(value)
        for key in value:
            if key not in _CLASS_KEYS:
                raise UserError(
                    f"data.classes has the key '{key}': it takes names, colours, merge, ignore and "
                    "shift, or the classes' names by stored value"
                )
        return _checked({**value, "colours": _as_rgb(value.get("colours"), "data.classes.colours")})

    @field_validator("colours", mode="before")
    @classmethod
    def _colours_as_numbers(cls, value: object) -> object:
        return _as_rgb(value, "data.colours")


def rgb_of(text: str) -> Rgb | None:
    """The colour that ``#rrggbb`` stands for; None if it is none."""
    found = _HEXADECIMAL.fullmatch(text.strip())
    if found is None:
        return None
    number = int(found[1], 16)
    return number >> 16, (number >> 8) & 255, number & 255


def _by_value(given: Mapping[Any, Any]) -> ClassSettings:
    """``{0: sky, 3: road}``, or ``{0: sky, 1: {name: vehicle, values: [3, 4]}}``."""
    names: dict[int, str] = {}
    merge: dict[str, tuple[int, ...]] = {}
    taken: dict[int, str] = {}
    for key, written in given.items():
        declared = written if isinstance(written, Mapping) else {"name": written}
        name = declared.get("name")
        values = declared.get("values", declared.get("labels", [key]))
        are_stored = isinstance(values, list | tuple) and all(map(_is_whole, values))
        is_name = isinstance(name, str | int | float) and not isinstance(name, bool)
        if not is_name or not are_stored or not values:
            raise UserError(
                f"data.classes of {key} is {dict(declared)}: write its name, or {{name: NAME, "
                "values: [stored values]}"
            )
        name, stored = str(name), tuple(int(value) for value in values)
        twice = next((value for value in stored if value in taken), None)
        if twice is not None:
            raise UserError(
                f"data.classes gives {twice} to both '{taken[twice]}' and '{name}': leave it in one"
            )
        taken |= dict.fromkeys(stored, name)
        names[stored[0]] = name
        if len(stored) > 1:
            merge[name] = stored
    return _checked({"names": names, "merge": merge})


def _checked(given: Mapping[str, Any]) -> ClassSettings:
    given = {key: value for key, value in given.items() if value is not None}
    try:
        return ClassSettings.model_validate(given)
    except ValueError as error:  # pydantic's names members of unions, which say little
        raise UserError(
            f"data.classes={given} is not as in {{names: [sky, road], merge: {{road: [3, "
            "4]}, ignore: [0, 255], shift: -1}"
        ) from error


def _as_rgb(value: object, key: str) -> object:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {str(name): _colour(colour, key) for name, colour in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_colour(colour, key) for colour in value)
    raise UserError(f"{key}={value}: write [[0, 0, 0], [255, 0, 0]] or {{road: [255, 0, 0]}}")


def _colour(value: object, key: str) -> Rgb:
    if isinstance(value, str):
        found = rgb_of(value)
        if found is not None:
            return found
    if (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(_is_int(part) and 0 <= part <= 255 for part in value)
    ):
        return int(value[0]), int(value[1]), int(value[2])
    raise UserError(f"{key} names the colour {value}: write [red, green, blue], each 0 to 255")


def _is_whole(key: object) -> bool:
    return _is_int(key) or (isinstance(key, str) and key.isdecimal())


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
