"""Find the kind of a data set's masks from a sample, and the numbers that they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cp2fast.errors import UserError
from cp2fast.labels.class_files import Declared, DeclaredClass
from cp2fast.labels.masks import (
    COLOURED,
    IGNORED,
    Kind,
    colours_in_words,
    mode_of,
    packed,
    read_stored,
)

BINARY = "binary masks"
"""Source of the classes of masks that hold only 0 and 255."""

_BLACK_AND_WHITE = (0, 255)
_JPEG_SPREAD = 16
"""Levels by which JPEG may change black and white."""
_SHOWN = 8
"""How many colours a message names."""


def kind_of_masks(sample: Sequence[Path], declared: Declared | None) -> Kind:
    """The kind of the masks, found from a sample. Raises UserError if they are of several."""
    modes = {path: mode_of(path) for path in sample}
    coloured = [path for path, mode in modes.items() if mode in COLOURED]
    others = [path for path in modes if path not in coloured]
    has_colours = declared is not None and declared.has_colours
    if not coloured:
        by_palette = has_colours and all(mode == "P" for mode in modes.values())
        return "colours" if by_palette and _all_known(sample, declared) else "values"
    if others and not (has_colours and _all_known(others, declared)):
        raise UserError(
            f"masks of different kinds: {coloured[0]} holds colours ({modes[coloured[0]]}) and "
            f"{others[0]} numbers ({modes[others[0]]}): save all alike, or name the folder of one "
            "kind with data.masks"
        )
    if has_colours:
        return "colours"
    return "equal" if all(_is_grey(path) for path in coloured) else "colours"


def _all_known(sample: Iterable[Path], declared: Declared | None) -> bool:
    """Whether all colours in these masks belong to classes, or to 255 of a palette."""
    classes = () if declared is None else declared.classes
    known = [one.colour for one in classes if one.colour is not None]
    codes = packed(np.array(known, np.uint8).reshape(-1, 3))
    masks = (read_stored(path, "colours") for path in sample)
    return all(bool((np.isin(mask.pixels, codes) | mask.void).all()) for mask in masks)


def _is_grey(path: Path) -> bool:
    colours = np.unique(read_stored(path, "colours").pixels)
    return bool(((colours >> 16 == colours & 255) & (colours >> 8 & 255 == colours & 255)).all())


def with_numbers(
    declared: Declared | None,
    masks: Sequence[Path],
    sample: Sequence[Path],
    kind: Kind,
    nearest: bool,
    threads: int,
) -> Declared:
    """The classes of masks of numbers, found if masks hold only 0 and 255 or nothing names them.

    All masks are read unless a ``sample`` of them holds other numbers. With ``nearest``, nearly
    black and nearly white count as black and white.

    Raises:
        UserError: masks are nearly black and white, or JPEGs without names, or hold too many
            numbers or too few.
    """
    names = None if declared is None else [one.name for one in declared.classes]
    if declared is not None and (
        len(declared.classes) != 2 or any(one.value is not None for one in declared.classes)
    ):
        return declared
    some = _values(sample, kind, threads)
    if set(some) <= set(_BLACK_AND_WHITE):
        some = _values(masks, kind, threads)
        if IGNORED in some and set(some) <= set(_BLACK_AND_WHITE):
            return _binary(names)
    if _nearly_binary(sample, some):
        if nearest:
            return _binary(names)
        raise UserError(
            f"{sample[0]} is a JPEG of nearly black and white: set data.nearest=on to take it as "
            "black and white, or save the masks as PNG"
        )
    white = _nearly_white(some)
    if declared is None and white is not None:
        if nearest:
            return _binary(names)
        raise UserError(
            f"the masks ({sample[0]} and others) hold {white} beside {IGNORED}, which is ignored: "
            f"set data.nearest=on if both are white, or name {white} in data.classes"
        )
    return declared or _by_number(masks, kind, threads)


def _nearly_white(values: Sequence[int]) -> int | None:
    """A value just below 255 beside 255 itself, where all others are nearly black."""
    low, high = _JPEG_SPREAD, IGNORED - _JPEG_SPREAD
    if IGNORED not in values or any(low < value < high for value in values):
        return None
    return next((value for value in values if high <= value < IGNORED), None)


def _binary(names: Sequence[str] | None) -> Declared:
    pair = zip(names or ("background", "foreground"), _BLACK_AND_WHITE, strict=True)
    return Declared(tuple(DeclaredClass(name, value) for name, value in pair), BINARY)


def _by_number(masks: Sequence[Path], kind: Kind, threads: int) -> Declared:
    """One class for each number in the masks."""
    lossy = next(filter(_is_jpeg, masks), None)
    if lossy is not None:
        raise UserError(
            f"{lossy} is a JPEG, whose values are approximate: name those that are classes in "
            "data.classes and set data.nearest=on, or save the masks as PNG"
        )
    values = [value for value in _values(masks, kind, threads) if value != IGNORED]
    if len(values) > IGNORED:
        raise UserError(
            f"the masks ({masks[0]} and others) hold {len(values)} different values: name those "
            "that are classes in data.classes"
        )
    if len(values) < 2:
        held = f"{values[0]} alone" if values else "nothing but 255, which is ignored"
        raise UserError(
            f"the masks ({masks[0]} and others) hold {held}: there is nothing to tell apart"
        )
    return Declared(tuple(DeclaredClass(str(value), value) for value in values), "the masks")


def _nearly_binary(sample: Sequence[Path], values: Sequence[int]) -> bool:
    """Whether these are JPEGs whose pixels are almost all nearly black or nearly white."""
    if max(values) < IGNORED - _JPEG_SPREAD or min(values) > _JPEG_SPREAD:
        return False
    if not all(map(_is_jpeg, sample)):
        return False
    pixels = np.concatenate([read_stored(path, "values").pixels.ravel() for path in sample[:4]])
    near = (pixels <= _JPEG_SPREAD) | (pixels >= IGNORED - _JPEG_SPREAD)
    return bool(near.mean() > 0.9)


def _is_jpeg(mask: Path) -> bool:
    return mask.suffix.lower() in (".jpg", ".jpeg")


def _values(masks: Sequence[Path], kind: Kind, threads: int) -> list[int]:
    """The numbers in the masks, sorted."""
    with ThreadPoolExecutor(threads) as pool:
        held = pool.map(lambda mask: np.unique(read_stored(mask, kind).pixels).tolist(), masks)
        return sorted(set[int]().union(*held))


def unnamed_colours(sample: Sequence[Path]) -> UserError:
    """The error for masks of colours without named classes; shows colours from a sample."""
    counts = Counter[int]()
    for path in sample:
        colours, pixels = np.unique(read_stored(path, "colours").pixels, return_counts=True)
        counts.update(dict(zip(colours.tolist(), pixels.tolist(), strict=True)))
    return UserError(
        f"{sample[0]} and others hold colours ({colours_in_words(counts, _SHOWN)}), and nothing "
        "says which class each is: add labelmap.txt or classes.csv, or set "
        "data.colours={NAME: [red, green, blue], ...}"
    )
