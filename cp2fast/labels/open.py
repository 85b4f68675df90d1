"""Open a labelled data set: find its layout, its classes and how its masks are read.

    root -> layout -> declared classes -> kind of the masks -> labels

The user need not specify what the files show; the findings are reported in one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cp2fast.config import LabelSettings
from cp2fast.cores import decoding_workers
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.remote.urls import typed_as_path
from cp2fast.errors import UserError
from cp2fast.files import place_of
from cp2fast.labels.class_files import read_class_file
from cp2fast.labels.classes import Classes, declared_in, given_colours, settle
from cp2fast.labels.coco import coco_layout
from cp2fast.labels.dataset import LabelledData, evenly
from cp2fast.labels.kinds import BINARY, kind_of_masks, unnamed_colours, with_numbers
from cp2fast.labels.layout import Layout, held_out
from cp2fast.labels.painted import Annotations
from cp2fast.labels.pairs import folders_layout
from cp2fast.labels.table import csv_layout
from cp2fast.labels.template import template_layout
from cp2fast.labels.voc import voc_layout
from cp2fast.wording import counted

_LAYOUTS = (template_layout, csv_layout, voc_layout, coco_layout, folders_layout)
"""The layouts, in the order in which they are tried."""
_LOOKED_AT = 24
"""Size of the sample of masks, evenly spread, that determines the kind of all masks."""
_KIND_WORDS = {
    "values": "masks of numbers",
    "equal": "masks of numbers saved as RGB",
    "colours": "masks of colours",
}


def open_labelled(settings: LabelSettings, root: Path, workers: int | None = None) -> LabelledData:
    """Open the data set of ``data.root``; every file in its lists exists.

    Args:
        settings: where masks and splits are, and how masks are interpreted.
        root: folder, CSV file of pairs, or COCO's JSON file.
        workers: number of threads; None uses all cores.

    Raises:
        UserError: unknown layout, something is missing, or the masks cannot be interpreted.
    """
    layout = _recognise(settings, root)
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


def _recognise(settings: LabelSettings, root: Path) -> Layout:
    for layout in _LAYOUTS:
        found = layout(settings, root)
        if found is not None:
            return found
    url = typed_as_path(root)
    if url is not None:
        raise UserError(
            f"{url}: images with masks are read from this machine only: copy them here and name "
            "that folder"
        )
    if place_of(root) == "nothing":
        raise UserError(f"there is no folder or file {root}: correct the path")
    raise UserError(
        f"{root} holds no labelled images (no known layout): it needs VOC layout (JPEGImages, "
        "SegmentationClass, ImageSets), the folders images and masks, a CSV of pairs, or COCO's "
        "JSON with segmentations; or set data.masks={dir}/../labels/{stem}_mask.png"
    )


def _classes(
    layout: Layout,
    settings: LabelSettings,
    root: Path,
    masks: Sequence[Path | Annotations],
    threads: int,
) -> tuple[Classes, str]:
    """The classes, and a description of the kind of masks."""
    folder = root if place_of(root) == "folder" else root.parent
    declared = declared_in(settings) or layout.declared or read_class_file(folder) or layout.default
    colours = given_colours(settings)
    if declared is not None and isinstance(colours, tuple):
        declared = declared.coloured(colours)
    files = [mask for mask in masks if isinstance(mask, Path)]
    if not files:
        if declared is None:
            raise UserError(f"{root} names no classes")
        return settle(declared, "values", settings), "outlines"
    sample = evenly(files, _LOOKED_AT)
    kind = kind_of_masks(sample, declared)
    if not layout.has_border and kind != "colours":
        declared = with_numbers(declared, files, sample, kind, settings.nearest == "on", threads)
    if declared is None or (kind == "colours" and not declared.has_colours):
        raise unnamed_colours(sample)
    binary = declared.source == BINARY
    said = "binary masks (0 and 255)" if binary else _KIND_WORDS[kind]
    return settle(declared, kind, settings), said
