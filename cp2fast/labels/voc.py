"""Data sets in the layout of PASCAL VOC: splits, masks and class names.

    JPEGImages/NAME.jpg
    SegmentationClassAug/NAME.png      preferred, if it exists
    SegmentationClass/NAME.png
    ImageSets/Segmentation/SPLIT.txt   one NAME per line
    classes.txt                        one name per line, label 0 first; default: VOC's classes

A mask is a palette or grey PNG whose pixel values are the labels; 255 is ignored. CVAT and Datumaro
write colours instead, with a file ``labelmap.txt``.
"""

from __future__ import annotations

from pathlib import Path

from cp2fast.config import LabelSettings
from cp2fast.files import is_file, list_folder, place_of
from cp2fast.labels.class_files import Declared, DeclaredClass
from cp2fast.labels.layout import TRAIN_NAMES, VAL_NAMES, Layout, given_val_split
from cp2fast.labels.voc_split import list_of, read_split

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)

_ALL = ("default", "trainval", "all")
"""Lists of images without a split."""


def voc_layout(settings: LabelSettings, root: Path) -> Layout | None:
    """The data set below ``root``, with all files of its splits; None if the layout is another.

    Raises:
        UserError: a split, an image or a mask is missing.
    """
    lists = list_of(root, "").parent
    if place_of(lists) != "folder":
        return None
    there = {path.stem.lower(): path.stem for path in list_folder(lists) if path.suffix == ".txt"}
    usual = given_val_split(settings) is None
    val = settings.val_split
    if usual and not is_file(list_of(root, val)):
        val = next((there[name] for name in VAL_NAMES if name in there), val)
    train = settings.train_split or _train_split(root, there)
    whole = train.lower() in _ALL and usual and not is_file(list_of(root, val))
    default = Declared(tuple(map(DeclaredClass, VOC_CLASSES)), "VOC's classes")
    return Layout(
        name="VOC layout",
        train=read_split(root, train, "data.train_split"),
        val=None if whole else read_split(root, val, "data.val_split"),
        train_split=train,
        default=default,
        has_border=True,
    )


def _train_split(root: Path, there: dict[str, str]) -> str:
    if is_file(list_of(root, "train_aug")):
        return "train_aug"
    if is_file(list_of(root, "train")):
        return "train"
    return next((there[name] for name in (*TRAIN_NAMES, *_ALL) if name in there), "train")
