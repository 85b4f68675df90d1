"""Public data sets that are recognised by their file names, with their classes.

Numbers, names and colours of Cityscapes are those of cityscapesScripts (``labels.py``): 19 of its
classes are evaluated, the others are ignored. The classes of ADE20K (SceneParsing, 150 classes) are
numbered from 1; 0 is everything else and is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cp2fast.config import Rgb
from cp2fast.labels.class_files import Declared, DeclaredClass, read_class_file

_CITYSCAPES: dict[str, tuple[int, Rgb]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
"""Number in ``labelIds`` and colour by name; the position is the number in ``labelTrainIds``."""

_ADE_CLASSES = 150


class Known(NamedTuple):
    """A public data set."""

    name: str
    declared: Declared


def known_classes(root: Path, masks: Sequence[Path]) -> Known | None:
    """The public data set that these masks belong to, by their names; None if unknown."""
    if all("_gtFine_" in mask.stem for mask in masks):
        by_place = masks[0].stem.endswith("TrainIds")
        return Known("Cityscapes", _cityscapes(by_place))
    if all(mask.stem.startswith(("ADE_train_", "ADE_val_")) for mask in masks):
        return Known("ADE20K", _ade20k(root))
    return None


def _cityscapes(by_place: bool) -> Declared:
    classes = tuple(
        DeclaredClass(name, place if by_place else number, colour)
        for place, (name, (number, colour)) in enumerate(_CITYSCAPES.items())
    )
    return Declared(classes, "Cityscapes", others_ignored=True)


def _ade20k(root: Path) -> Declared:
    """Classes named by ``objectInfo150.txt`` if it is beside the folders, otherwise numbered."""
    found = read_class_file(root)
    if found is not None and found.ignored:
        return found
    if found is not None and len(found.classes) == _ADE_CLASSES:
        numbers = enumerate(found.classes, 1)
        named = tuple(DeclaredClass(one.name, number, one.colour) for number, one in numbers)
        return Declared(named, found.source, ignored=(0,))
    numbered = (DeclaredClass(str(number), number) for number in range(1, _ADE_CLASSES + 1))
    return Declared(tuple(numbered), "ADE20K", ignored=(0,))
