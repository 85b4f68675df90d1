"""The classes to train on: declared classes, merged, ignored and numbered.

declared names and stored values  ->  merge, ignore, shift  ->  labels 0, 1, 2, ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cp2fast.config import ClassSettings, LabelSettings, Rgb, rgb_of
from cp2fast.data.scenes import voc_palette
from cp2fast.errors import UserError
from cp2fast.labels.class_files import Declared, DeclaredClass
from cp2fast.labels.coding import Coding
from cp2fast.labels.masks import IGNORED, Kind, colour_name

_HIGHEST = 65_535
_VOC_COLOURS = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)


@dataclass(frozen=True)
class Classes:
    """The classes to train on; names and colours are by label."""

    names: tuple[str, ...]
    colours: tuple[Rgb, ...]
    """For written masks and for pictures."""
    coding: Coding
    """How the masks are read."""


def declared_in(settings: LabelSettings) -> Declared | None:
    """The classes that the settings name; None if they name none.

    Raises:
        UserError: names and colours do not match.
    """
    given = settings.classes
    if not isinstance(given, ClassSettings):
        given = ClassSettings(names=given)
    names, colours = given.names, given_colours(settings)
    if names is None and isinstance(colours, dict):
        coloured = (DeclaredClass(name, colour=colour) for name, colour in colours.items())
        return Declared(tuple(coloured), "data.colours")
    if names is None:
        return None
    if isinstance(names, dict):
        classes = tuple(DeclaredClass(name, value) for value, name in names.items())
    else:
        classes = tuple(map(DeclaredClass, names))
    declared = Declared(classes, "data.classes")
    return declared if colours is None else declared.coloured(colours)


def given_colours(settings: LabelSettings) -> tuple[Rgb, ...] | dict[str, Rgb] | None:
    """The colours that the settings name; those of ``data.classes`` come first."""
    given = settings.classes.colours if isinstance(settings.classes, ClassSettings) else None
    return settings.colours if given is None else given


def settle(declared: Declared, kind: Kind, settings: LabelSettings) -> Classes:
    """Number the declared classes of masks of this kind.

    Raises:
        UserError: merges overlap or name a class that does not exist, a class is named twice, or
            there are too few or too many classes.
    """
    given = settings.classes
    changes = given if isinstance(given, ClassSettings) else ClassSettings()
    keyed = _keyed(declared, kind, changes.shift)
    groups = _Groups(keyed, declared, kind)
    for target, members in changes.merge.items():
        groups.merge(target, [groups.stored(member, f"merge.{target}") for member in members])
    for member in changes.ignore:
        groups.ignore(groups.stored(member, "ignore", may_be_unknown=True))
    names = groups.names()
    if "" in names:
        raise UserError(
            f"{declared.source} has a class without a name: name it, or list what its masks store "
            "in data.classes.ignore"
        )
    if not 2 <= len(names) <= IGNORED:
        raise UserError(
            f"{declared.source} has {len(names)} classes: 2 to {IGNORED} are needed"
            + (", after merging and ignoring" if changes.merge or changes.ignore else "")
        )
    known: dict[int, int] = {}
    if kind != "colours":
        below = range(min(-changes.shift, _HIGHEST))
        known = dict.fromkeys((*declared.ignored, IGNORED, *below), IGNORED)
    known |= groups.labels()
    beyond = next((stored for stored in known if not 0 <= stored <= _HIGHEST), None)
    if beyond is not None and kind != "colours":
        raise UserError(
            f"the classes name the value {beyond}, but masks store 0 to {_HIGHEST}: correct it"
        )
    unknown = "ignore" if declared.others_ignored else settings.unknown
    coding = Coding(kind, known, unknown, settings.nearest == "on")
    return Classes(names, groups.colours(), coding)


def _keyed(declared: Declared, kind: Kind, shift: int) -> dict[int, DeclaredClass]:
    """The classes by the number that masks store for them."""
    if kind == "colours":
        pairs = [(_code(one.colour), one) for one in declared.classes if one.colour is not None]
    else:
        pairs = [
            (place - shift if one.value is None else one.value, one)
            for place, one in enumerate(declared.classes)
            if one.value is None or one.value + shift >= 0
        ]
    keyed: dict[int, DeclaredClass] = {}
    for stored, one in pairs:
        if stored in keyed:
            shown = colour_name(stored) if kind == "colours" else str(stored)
            raise UserError(
                f"{declared.source} gives {shown} to both '{keyed[stored].name}' and '{one.name}': "
                "each needs its own; data.classes={merge: ...} makes one class of several"
            )
        if any(other.name == one.name for other in keyed.values()):
            raise UserError(
                f"{declared.source} names the class '{one.name}' twice: each needs a name of its "
                "own"
            )
        keyed[stored] = one
    return keyed


class _Groups:
    """Groups of stored numbers, each of which becomes one class."""

    def __init__(self, keyed: Mapping[int, DeclaredClass], declared: Declared, kind: Kind) -> None:
        self._keyed, self._declared, self._kind = keyed, declared, kind
        self._by_name = {one.name: stored for stored, one in keyed.items()}
        self._group: dict[int, str | None] = {stored: one.name for stored, one in keyed.items()}
        """The name of the class by stored number; None if it is ignored."""
        self._colours = {one.name: one.colour for one in keyed.values()}
        self._merged: dict[int, str] = {}

    def stored(self, member: int | str, where: str, may_be_unknown: bool = False) -> int:
        """The stored number of a member of a merge. Raises UserError if it names no class."""
        if isinstance(member, str) and member in self._by_name:
            return self._by_name[member]
        if self._kind == "colours":
            if isinstance(member, int) and 0 <= member < len(self._declared.classes):
                colour = self._declared.classes[member].colour
                if colour is not None:
                    return _code(colour)
            rgb = rgb_of(member) if isinstance(member, str) else None
            if rgb is not None and (may_be_unknown or _code(rgb) in self._keyed):
                return _code(rgb)
        elif isinstance(member, int) or member.isdecimal():
            return int(member)
        names = ", ".join(list(self._by_name)[:12])
        raise UserError(
            f"data.classes.{where} names {member}, which is not a class of {self._declared.source} "
            f"({names}{', ...' if len(self._by_name) > 12 else ''}): use one of its names, or "
            "what its masks store"
        )

    def merge(self, target: str, members: Sequence[int]) -> None:
        """Merge several classes into one. Raises UserError if one of them is already merged."""
        if not members:
            raise UserError(f"data.classes.merge.{target} is empty: name what becomes of it")
        for stored in members:
            if stored in self._merged:
                raise UserError(
                    f"data.classes.merge puts {self._name(stored)} into both "
                    f"'{self._merged[stored]}' and '{target}': leave it in one"
                )
            self._merged[stored] = target
        if target not in self._colours:
            self._colours[target] = self._colours.get(self._group.get(members[0]) or "")
        self._group |= dict.fromkeys(members, target)

    def ignore(self, stored: int) -> None:
        """Ignore a stored number. Raises UserError if it belongs to a merge."""
        if stored in self._merged:
            raise UserError(
                f"data.classes ignores {self._name(stored)} and merges it into "
                f"'{self._merged[stored]}': leave it in one"
            )
        self._group[stored] = None

    def names(self) -> tuple[str, ...]:
        """Class names by label."""
        return tuple(dict.fromkeys(name for name in self._group.values() if name is not None))

    def colours(self) -> tuple[Rgb, ...]:
        """Class colours by label, for at most 256 classes: VOC's, unless all classes have one."""
        given = [self._colours.get(name) for name in self.names()]
        known = tuple(colour for colour in given if colour is not None)
        if len(known) == len(given):
            return known
        return tuple((red, green, blue) for red, green, blue in _VOC_COLOURS[: len(given)].tolist())

    def labels(self) -> dict[int, int]:
        """Labels by stored number; 255 if ignored."""
        order: dict[str | None, int] = {name: label for label, name in enumerate(self.names())}
        return {stored: order.get(name, IGNORED) for stored, name in self._group.items()}

    def _name(self, stored: int) -> str:
        shown = colour_name(stored) if self._kind == "colours" else str(stored)
        return f"{shown} ({self._keyed[stored].name})" if stored in self._keyed else shown


def palette_of(colours: Sequence[Rgb]) -> NDArray[np.uint8]:
    """Colours of all 256 labels, ``[256, 3]``: those of the classes, then VOC's."""
    palette = _VOC_COLOURS.copy()
    palette[: len(colours)] = np.array(colours, np.uint8).reshape(-1, 3)
    return palette


def _code(colour: Rgb) -> int:
    return (colour[0] << 16) | (colour[1] << 8) | colour[2]
