"""Text for the user: what settings accept, what is wrong with a value, and counts of things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import yaml

from cp2fast.config import FALLING, Section

_NOUNS = {int: "whole number", float: "number", str: "text", Path: "path"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_BOUNDS = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}
"""Keyed by pydantic's error types."""


@dataclass(frozen=True)
class Values:
    """The values that a setting accepts; ``str`` of it is for the help."""

    noun: str
    choices: tuple[str, ...] = ()
    bounds: str = ""
    is_list: bool = False
    length: int | None = None
    """Of a list of fixed length."""
    instead: Values | None = None
    """The list that may be given instead."""

    def __str__(self) -> str:
        noun = "|".join(self.choices) if self.choices else self.noun
        if self.is_list:
            items = noun if self.choices else f"{noun}s"
            noun = f"list of {self.length or ''} {items}".replace("  ", " ")
        return noun + self.bounds

    def item(self) -> Values:
        """The values that each item of a list accepts."""
        return Values(self.noun, self.choices, self.bounds)

    def one(self) -> str:
        """The noun for a message that ends in "is not ..."."""
        if self.is_list:
            return "a list"
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        return self.noun if self.noun == "text" else f"a {self.noun}"


class Setting(NamedTuple):
    """A setting: what it accepts, its default in words, and one line of help."""

    key: str
    values: Values
    default: str
    help: str


def describe(kind: type[Section], prefix: str = "") -> Iterator[Setting]:
    """Every setting of ``kind``, in order; keys begin with ``prefix``."""
    for name, field in kind.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield from describe(section, f"{prefix}{name}.")
        else:
            values = _values(field.annotation, field.metadata)
            default = in_words(field.get_default(call_default_factory=True))
            yield Setting(f"{prefix}{name}", values, default, field.description or "")
            for member in get_args(section):  # a setting that may be given part by part
                if isinstance(member, type) and issubclass(member, Section):
                    yield from describe(member, f"{prefix}{name}.")


@cache
def text_settings(kind: type[Section]) -> Mapping[str, bool]:
    """The settings that take a path or other free text, by key; True if they take a list of it."""
    return {
        setting.key: setting.values.is_list
        for setting in describe(kind)
        if setting.values.noun in ("text", "path")
    }


@cache
def renamed_settings(kind: type[Section]) -> Mapping[str, str]:
    """The current key of each setting that was renamed, by its old key."""
    return {
        f"{name}.{old}": f"{name}.{new}"
        for name, field in kind.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        for old, new in field.annotation.renamed.items()
    }


def in_words(value: object) -> str:
    """A setting's value as shown in the help; floats have four digits."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(in_words, value))}]"
    return str(value)


def counted(count: int, noun: str) -> str:
    """A count with its noun, singular or plural."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def complaint(
    kind: type[Section], tree: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]
) -> str:
    """One line: what is wrong with a value, what the setting is for and what it accepts.

    Args:
        kind: class of the settings.
        tree: the data that they were read from.
        errors: pydantic's. The first, which counts, is for a value or a part of it, not for an
            unknown key.
    """
    error = errors[0]
    place = list(map(str, error["loc"]))
    settings = {setting.key: setting for setting in describe(kind)}
    # Below a setting, pydantic gives the index of a list item or the member of a union.
    keys = [".".join(place[:end]) for end in range(len(place), 0, -1)]
    key = next((key for key in keys if key in settings), None)
    if key is None:
        return f"'{keys[0]}' in the recipe must be a section, not {_typed(error['input'])}"
    value: Any = tree
    for name in key.split("."):
        value = value[name]
    setting = settings[key]
    values = setting.values
    if values.instead and isinstance(error["input"], list | tuple):
        values = values.instead
        in_list = (e for e in errors if ".".join(map(str, e["loc"])).startswith(f"{key}.tuple["))
        error = next(in_list, error)
    inside = isinstance(error["loc"][-1], int) and error["type"] != "missing"
    accepted = values.item() if inside else values
    item = f": {_typed(error['input'])}" if inside else ""
    return (
        f"{key}={_typed(value)}{item} {_wrong(error, accepted)} ({setting.help}; takes "
        f"{values}, default {setting.default})"
    )


def _values(annotation: Any, metadata: Sequence[object]) -> Values:
    inner = get_args(annotation)
    if annotation in _NOUNS:
        return Values(_NOUNS[annotation], bounds=_bounds(metadata))
    if get_origin(annotation) is Literal:
        return Values("", choices=inner)
    if get_origin(annotation) is Annotated:
        return _values(inner[0], inner[1:])
    if get_origin(annotation) is dict:
        return Values("mapping")
    if get_origin(annotation) is tuple:
        item = _values(inner[0], ())
        length = None if Ellipsis in inner else len(inner)
        return Values(item.noun, item.choices, item.bounds, is_list=True, length=length)
    one = _values(next(member for member in inner if member is not NoneType), metadata)
    lists = (_values(member, ()) for member in inner if get_origin(member) is tuple)
    return replace(one, instead=next(lists, None))


def _bounds(metadata: Sequence[object]) -> str:
    """The bounds of a number, with a leading blank or comma."""
    flat = [one for item in metadata for one in getattr(item, "metadata", [item])]
    bounds = {sign: getattr(one, sign) for one in flat for sign in _SIGNS if hasattr(one, sign)}
    if set(bounds) == {"ge", "le"}:
        return f", {bounds['ge']:g} to {bounds['le']:g}"
    texts = [f" {_SIGNS[sign]} {bounds[sign]:g}" for sign in _SIGNS if sign in bounds]
    return " and".join(texts)


def _wrong(error: Mapping[str, Any], accepted: Values) -> str:
    """The predicate of an error message."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**context)}"
    if kind == "bands":
        return "must be three bands, or one"
    if kind == "too_short":
        return "is empty"
    if kind == FALLING:
        return "must go from low to high"
    if accepted.length and (kind in ("missing", "too_long") or accepted.is_list):
        return f"must be a list of {accepted.length}"
    if kind == "finite_number":
        return "is not a finite number"
    if kind == "int_parsing_size":
        return "is too large"
    if accepted.is_list:
        return f"is not a list: write [{_typed(error['input'])}]"
    return f"is not {accepted.one()}"


def _typed(value: object) -> str:
    """A value as the user would type it, on one line."""
    if isinstance(value, str):
        return " ".join(value.split())
    try:
        text: str = yaml.safe_dump(value, default_flow_style=True, width=2**31)
    except yaml.YAMLError:  # an object of Python's, which no file holds
        text = str(value)
    return " ".join(text.removesuffix("...\n").split())
