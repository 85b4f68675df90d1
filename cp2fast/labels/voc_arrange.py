"""PASCAL VOC 2012 with the masks of SBD: the 10,582 images known as train_aug.

SBD (Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011) has masks for 11,355
images of VOC. Masks that VOC itself lacks go into ``SegmentationClassAug``.

    DIR/VOCdevkit/VOC2012   as in VOCtrainval_11-May-2012.tar
    DIR/sbd                 cls, train.txt, val.txt from benchmark.tgz
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cp2fast.config import LabelledDataSettings
from cp2fast.data.scenes import voc_palette
from cp2fast.errors import UserError
from cp2fast.files import make_folder, path_of, place_of, read_text
from cp2fast.labels.open import open_labelled
from cp2fast.run_folder import atomic_write

TRAIN_AUG = 10_582
"""Number of images in train_aug if both data sets are complete."""

_VOC_TAR = "VOCtrainval_11-May-2012.tar"
_SBD_TAR = "benchmark.tgz"
_SBD_INSIDE = "benchmark_RELEASE/dataset"


class Arranged(NamedTuple):
    """The result of ``arrange_voc``."""

    root: Path
    """Value for ``data.root``."""
    converted: int
    """Number of masks written by this call."""
    train_aug: int
    """Number of images in ``train_aug.txt``."""
    val: int
    """Number of images in ``val.txt``."""


def arrange_voc(folder: str | Path, say: Callable[[str], None] = lambda line: None) -> Arranged:
    """Arrange VOC 2012 and SBD below ``folder``, downloading what is missing.

    Each file is written completely or not at all, and existing files are kept, so the next call
    continues an interrupted one.

    Args:
        folder: target folder; created if missing.
        say: called with one line before each long task.

    Raises:
        UserError: a download failed or is damaged, with where to put the file by hand; or a folder
            cannot be made, or a list cannot be read.
    """
    folder = path_of(folder)
    if place_of(folder) != "folder":
        make_folder(folder, "DIR")
    root = _find_voc(folder, say)
    sbd = _find_sbd(folder, say)
    lists = root / "ImageSets" / "Segmentation"
    train, val = (_names(lists / f"{split}.txt") for split in ("train", "val"))
    in_sbd = {name for split in ("train", "val") for name in _names(sbd / f"{split}.txt")}
    masks = root / "SegmentationClassAug"
    make_folder(masks, "DIR")
    needed = sorted(in_sbd - set(train) - set(val))
    wanted = [name for name in needed if not (masks / f"{name}.png").exists()]
    if wanted:
        say(f"converting {len(wanted)} masks of SBD to {masks}")
    for name in wanted:
        _convert(sbd / "cls" / f"{name}.mat", masks / f"{name}.png")
    train_aug = sorted((in_sbd | set(train)) - set(val))
    with atomic_write(lists / "train_aug.txt") as file:
        file.writelines(f"{name}\n".encode() for name in train_aug)
    open_labelled(LabelledDataSettings(train_split="train_aug"), root)  # Does every file exist?
    return Arranged(root, len(wanted), len(train_aug), len(val))


def read_sbd_mask(path: Path) -> NDArray[np.uint8]:
    """The labels ``[H, W]`` in a file ``cls/NAME.mat`` of SBD.

    Raises:
        UserError: it cannot be read, or scipy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise UserError("SBD's masks are .mat files, for which: pip install scipy") from error
    try:
        content = loadmat(path, variable_names=["GTcls"])["GTcls"]
        return np.asarray(content["Segmentation"][0, 0], dtype=np.uint8)
    except Exception as error:  # scipy raises almost anything on a damaged file.
        raise UserError(
            f"{path} cannot be read as a mask of SBD ({' '.join(str(error).split())}): unpack "
            f"{_SBD_TAR} again"
        ) from error


def _find_voc(folder: Path, say: Callable[[str], None]) -> Path:
    root = folder / "VOCdevkit" / "VOC2012"
    if not _is_complete(root):
        from torchvision.datasets import VOCSegmentation

        _fetch(
            lambda: VOCSegmentation(folder, year="2012", image_set="train", download=True),
            f"PASCAL VOC 2012 into {root}",
            f"put {_VOC_TAR} into {folder}, or unpack it there, so that {root} exists",
            say,
        )
    return root


def _find_sbd(folder: Path, say: Callable[[str], None]) -> Path:
    sbd = folder / "sbd"
    unpacked = [sbd, sbd / _SBD_INSIDE, folder / _SBD_INSIDE]
    found = next((place for place in unpacked if _holds_sbd(place)), None)
    if found is not None:
        return found
    make_folder(sbd, "DIR")
    from torchvision.datasets import SBDataset

    _fetch(
        lambda: SBDataset(sbd, image_set="train", mode="segmentation", download=True),
        f"SBD into {sbd}",
        f"put {_SBD_TAR} into {sbd}, or its cls, train.txt and val.txt",
        say,
    )
    return sbd


def _fetch(
    download: Callable[[], object], what: str, by_hand: str, say: Callable[[str], None]
) -> None:
    say(f"downloading and unpacking {what}")
    try:
        download()
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"cannot download and unpack {what} ({reason}): {by_hand}, and run this again"
        ) from error


def _is_complete(root: Path) -> bool:
    """Whether VOC was unpacked completely; the masks come last in the tar file."""
    lists = root / "ImageSets" / "Segmentation"
    splits = [lists / f"{split}.txt" for split in ("train", "val")]
    return all(split.is_file() for split in splits) and all(
        (root / "SegmentationClass" / f"{name}.png").is_file()
        for split in splits
        for name in _names(split)
    )


def _holds_sbd(place: Path) -> bool:
    return (place / "cls").is_dir() and all(
        (place / f"{split}.txt").is_file() for split in ("train", "val")
    )


def _names(split: Path) -> list[str]:
    return read_text(split).split()


def _convert(source: Path, target: Path) -> None:
    if not source.is_file():
        raise UserError(f"there is no {source}, which SBD's lists name: unpack {_SBD_TAR} again")
    mask = Image.fromarray(read_sbd_mask(source))
    mask.putpalette(voc_palette())
    with atomic_write(target) as file:
        mask.save(file, format="PNG")
