"""Open a labelled data set: the first layout that fits, its classes, how its masks are read.

    root -> layout -> classes that something declares -> kind of the masks -> labels

Nothing is asked of the user that the files tell; what was found is said in one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from cp2fast.config import LabelSettings
from cp2fast.cores import decoding_workers
from cp2fast.data.levels import Levels
from cp2fast.errors import UserError
from cp2fast.files import place_of
from cp2fast.labels.class_files import Declared, DeclaredClass, read_class_file
from cp2fast.labels.classes import Classes, declared_in, numbered, settle
from cp2fast.labels.coco import coco_layout
from cp2fast.labels.coding import IGNORED
from cp2fast.labels.dataset import LabelledData
from cp2fast.labels.layout import Layout, held_out
from cp2fast.labels.masks import COLOURED, Kind, colour_name, mode_of, read_stored
from cp2fast.labels.painted import Annotations
from cp2fast.labels.pairs import folders_layout
from cp2fast.labels.table import csv_layout
from cp2fast.labels.template import template_layout
from cp2fast.labels.voc import no_voc_layout, voc_layout
from cp2fast.wording import counted

_LAYOUTS = (template_layout, csv_layout, voc_layout, coco_layout, folders_layout)
"""In the order in which they are tried."""
_LOOKED_AT = 24
"""Masks, evenly spread, whose headers and values tell what kind all are of."""
_SHOWN = 8
"""Colours that a message names."""
_BINARY = (0, 255)
_JPEG_SPREAD = 16
"""Levels by which JPEG moves black and white."""


def open_labelled(settings: LabelSettings, root: Path, workers: int | None = None) -> LabelledData:
    """The data set of ``data.root``; every file that its lists name is there.

    Args:
        settings: where masks and splits are, and what masks stand for.
        root: folder, CSV of pairs, or COCO's JSON.
        workers: threads; None is all cores.

    Raises:
        UserError: no known layout, something is missing, or what masks store is not to be known.
    """
    return _opened(_recognise(settings, root), settings, root, workers)


def open_voc(settings: LabelSettings, root: Path, workers: int | None = None) -> LabelledData:
    """``open_labelled`` of a data set that is in VOC layout.

    Raises:
        UserError: it is not, or as there.
    """
    layout = voc_layout(settings, root)
    if layout is None:
        raise no_voc_layout(root)
    return _opened(layout, settings, root, workers)


def _recognise(settings: LabelSettings, root: Path) -> Layout:
    for layout in _LAYOUTS:
        found = layout(settings, root)
        if found is not None:
            return found
    there = place_of(root)
    reason = "there is no such folder or file" if there == "nothing" else "no known layout"
    raise UserError(
        f"{root} holds no labelled images ({reason}): it needs VOC layout (JPEGImages, "
        "SegmentationClass, ImageSets), the folders images and masks, a CSV of pairs, or COCO's "
        "JSON; or set data.masks={dir}/../labels/{stem}_mask.png"
    )


def _opened(
    layout: Layout, settings: LabelSettings, root: Path, workers: int | None
) -> LabelledData:
    threads = decoding_workers(workers)
    train, val = layout.train, layout.val
    drawn = val is None
    if val is None:
        train, val = held_out(layout.train, settings)
    if not train or not val:
        raise UserError(f"{root} holds no images to {'learn from' if not train else 'score on'}")
    masks = [example.mask for example in (*train, *val)]
    classes, masks_said = _classes(layout, settings, root, masks, threads)
    how = f"drawn by data.val_seed={settings.val_seed}" if drawn else "as split there"
    return LabelledData(
        classes=classes.names,
        train=train,
        val=val,
        train_split=layout.train_split,
        max_pixels=settings.max_pixels,
        coding=classes.coding,
        threads=threads,
        colours=classes.colours,
        said=(
            f"{layout.name}, {masks_said}: {counted(len(train), 'image')} to learn from, "
            f"{len(val)} to score on ({how}); {len(classes.names)} classes"
        ),
        levels=Levels.of(settings.range, settings.bands),
        has_border=layout.has_border,
    )


def _classes(
    layout: Layout,
    settings: LabelSettings,
    root: Path,
    masks: Sequence[Path | Annotations],
    threads: int,
) -> tuple[Classes, str]:
    """The classes, and what kind of masks tell them."""
    folder = root if place_of(root) == "folder" else root.parent
    declared = declared_in(settings) or layout.declared or read_class_file(folder) or layout.default
    if (
        declared is not None
        and settings.colours is not None
        and not isinstance(settings.colours, dict)
    ):
        declared = declared.coloured(settings.colours)
    files = [mask for mask in masks if isinstance(mask, Path)]
    if not files:
        if declared is None:
            raise UserError(f"{root} names no classes")
        return settle(declared, "values", settings), "outlines"
    sample = _evenly(files)
    if layout.has_border and (declared is None or not declared.has_colours):
        kind: Kind = "values"
    else:
        kind = _kind(sample, declared)
    if not layout.has_border and kind != "colours":
        declared = _with_numbers(declared, files, sample, kind, settings, threads)
    if declared is None or (kind == "colours" and not declared.has_colours):
        raise UserError(_unnamed_colours(sample))
    binary = declared.source == _BINARY_SOURCE
    said = "binary masks (0 and 255)" if binary else _KIND_WORDS[kind]
    return settle(declared, kind, settings), said


_KIND_WORDS = {
    "values": "masks of numbers",
    "equal": "masks of numbers saved as RGB",
    "colours": "masks of colours",
}
_BINARY_SOURCE = "binary masks"


def _kind(sample: Sequence[Path], declared: Declared | None) -> Kind:
    """What the masks are, by the headers of some.

    Raises:
        UserError: they are of different kinds.
    """
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
    """Whether all colours of these masks are a class's."""
    classes = () if declared is None else declared.classes
    known = [one.colour for one in classes if one.colour is not None]
    codes = [(red << 16) | (green << 8) | blue for red, green, blue in known]
    return all(bool(np.isin(read_stored(path, "colours").pixels, codes).all()) for path in sample)


def _is_grey(path: Path) -> bool:
    colours = np.unique(read_stored(path, "colours").pixels)
    return bool(((colours >> 16 == colours & 255) & (colours >> 8 & 255 == colours & 255)).all())


def _with_numbers(
    declared: Declared | None,
    masks: Sequence[Path],
    sample: Sequence[Path],
    kind: Kind,
    settings: LabelSettings,
    threads: int,
) -> Declared | None:
    """The classes where masks hold nothing but 0 and 255, or where only numbers name them."""
    names = None if declared is None else declared.classes
    if names is not None and (len(names) != 2 or any(one.value is not None for one in names)):
        return declared
    some = _values(sample, kind, threads)
    if set(some) <= set(_BINARY) and IGNORED in _values(masks, kind, threads):
        pair = ("background", "foreground") if names is None else [one.name for one in names]
        both = zip(pair, _BINARY, strict=True)
        return Declared(tuple(DeclaredClass(name, value) for name, value in both), _BINARY_SOURCE)
    if _nearly_binary(sample, some):
        if settings.nearest == "off":
            raise UserError(
                f"{sample[0]} is a JPEG of nearly black and white: set data.nearest=on to take it "
                "as black and white, or save the masks as PNG"
            )
        pair = ("background", "foreground") if names is None else [one.name for one in names]
        both = zip(pair, _BINARY, strict=True)
        return Declared(tuple(DeclaredClass(name, value) for name, value in both), _BINARY_SOURCE)
    if declared is not None:
        return declared
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
    return numbered(values, "the masks")


def _nearly_binary(sample: Sequence[Path], values: Sequence[int]) -> bool:
    """Whether these are JPEGs in which nearly all pixels are nearly black or nearly white."""
    if max(values) < IGNORED - _JPEG_SPREAD or min(values) > _JPEG_SPREAD:
        return False
    if not all(path.suffix.lower() in (".jpg", ".jpeg") for path in sample):
        return False
    pixels = np.concatenate([read_stored(path, "values").pixels.ravel() for path in sample[:4]])
    near = (pixels <= _JPEG_SPREAD) | (pixels >= IGNORED - _JPEG_SPREAD)
    return bool(near.mean() > 0.9)


def _values(masks: Sequence[Path], kind: Kind, threads: int) -> list[int]:
    """The numbers that masks hold, in order."""
    with ThreadPoolExecutor(threads) as pool:
        found = set[int]().union(*pool.map(partial(_held, kind), masks))
    return sorted(found)


def _held(kind: Kind, mask: Path) -> set[int]:
    return set(np.unique(read_stored(mask, kind).pixels).tolist())


def _unnamed_colours(sample: Sequence[Path]) -> str:
    counts: dict[int, int] = {}
    for path in sample:
        colours, pixels = np.unique(read_stored(path, "colours").pixels, return_counts=True)
        for colour, count in zip(colours.tolist(), pixels.tolist(), strict=True):
            counts[colour] = counts.get(colour, 0) + count
    most = sorted(counts, key=lambda colour: -counts[colour])
    shown = ", ".join(f"{colour_name(c)} ({counts[c]:,} pixels)" for c in most[:_SHOWN])
    more = f" and {len(most) - _SHOWN} more" if len(most) > _SHOWN else ""
    return (
        f"{sample[0]} and others hold colours ({shown}{more}), and nothing says which class each "
        "is: add labelmap.txt or classes.csv, or set data.colours={NAME: [red, green, blue], ...}"
    )


def _evenly(files: Sequence[Path]) -> list[Path]:
    count = min(_LOOKED_AT, len(files))
    return [files[place * len(files) // count] for place in range(count)]
