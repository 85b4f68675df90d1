"""Arranging VOC 2012 and SBD, on a small tree with real .mat files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cp2fast.config import LabelledDataSettings
from cp2fast.data.scenes import voc_palette
from cp2fast.errors import UserError
from cp2fast.labels.dataset import read_example
from cp2fast.labels.open import open_labelled
from cp2fast.labels.voc_arrange import arrange_voc, read_sbd_mask

VOC_TRAIN, VOC_VAL = ["v1", "v2"], ["v3", "s3"]
SBD_TRAIN, SBD_VAL = ["v1", "s1", "s3"], ["s2", "s4"]
SIZE = (12, 17)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the two archives unpack: SBD has images of VOC's train (v1) and val (s3) too."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    lists, photos, masks = (
        root / name for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass")
    )
    for made in (lists, photos, masks, tmp_path / "sbd" / "cls"):
        made.mkdir(parents=True)
    for name in {*VOC_TRAIN, *VOC_VAL, *SBD_TRAIN, *SBD_VAL}:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photos / f"{name}.jpg")
    for name in VOC_TRAIN + VOC_VAL:
        Image.fromarray(np.full(SIZE, 1, np.uint8)).save(masks / f"{name}.png")
    for path, names in (
        (lists / "train.txt", VOC_TRAIN),
        (lists / "val.txt", VOC_VAL),
        (tmp_path / "sbd" / "train.txt", SBD_TRAIN),
        (tmp_path / "sbd" / "val.txt", SBD_VAL),
    ):
        path.write_text("\n".join(names) + "\n")
    for name in SBD_TRAIN + SBD_VAL:
        write_mat(tmp_path / "sbd" / "cls" / f"{name}.mat", sbd_labels(name))
    return tmp_path


def sbd_labels(name: str) -> np.ndarray:
    return np.random.default_rng(ord(name[1])).integers(0, 21, SIZE, np.uint8)


def write_mat(path: Path, labels: np.ndarray) -> None:
    """The structure of SBD's files: GTcls with Boundaries, Segmentation, CategoriesPresent."""
    present = np.unique(labels)[:, None]
    savemat(path, {"GTcls": {"Segmentation": labels, "CategoriesPresent": present}})


def arrange(folder: Path) -> tuple[int, int]:
    arranged = arrange_voc(folder, lambda _: None)
    return arranged.converted, arranged.train_aug


def test_train_aug_is_everything_but_val(folder: Path) -> None:
    assert arrange(folder) == (3, 5)
    root = folder / "VOCdevkit" / "VOC2012"
    names = (root / "ImageSets" / "Segmentation" / "train_aug.txt").read_text().split()
    assert names == ["s1", "s2", "s4", "v1", "v2"]


def test_the_masks_hold_sbds_labels_in_vocs_palette(folder: Path) -> None:
    arrange(folder)
    masks = folder / "VOCdevkit" / "VOC2012" / "SegmentationClassAug"
    assert sorted(path.stem for path in masks.iterdir()) == ["s1", "s2", "s4"]
    for name in ("s1", "s2", "s4"):
        with Image.open(masks / f"{name}.png") as mask:
            assert mask.getpalette("RGB") == list(voc_palette())
            np.testing.assert_array_equal(np.asarray(mask), sbd_labels(name))


def test_vocs_own_masks_stay_the_ones_of_its_images(folder: Path) -> None:
    arrange(folder)
    data = open_labelled(LabelledDataSettings(), folder / "VOCdevkit" / "VOC2012")
    assert data.train_split == "train_aug"
    own = [e for e in data.train if e.image.stem in VOC_TRAIN] + data.val
    assert all(int(read_example(example, data)[1].min()) == 1 for example in own)


def test_an_interrupted_arrangement_goes_on(folder: Path) -> None:
    arrange(folder)
    root = folder / "VOCdevkit" / "VOC2012"
    kept = root / "SegmentationClassAug" / "s1.png"
    before = kept.stat().st_mtime_ns
    (root / "SegmentationClassAug" / "s2.png").unlink()
    (root / "SegmentationClassAug" / "s4.partial").write_bytes(b"half")
    (root / "ImageSets" / "Segmentation" / "train_aug.txt").unlink()
    assert arrange(folder) == (1, 5)
    assert kept.stat().st_mtime_ns == before
    assert arrange(folder) == (0, 5)


def test_sbd_may_lie_where_its_archive_puts_it(folder: Path) -> None:
    (folder / "benchmark_RELEASE").mkdir()
    (folder / "sbd").rename(folder / "benchmark_RELEASE" / "dataset")
    assert arrange(folder) == (3, 5)


def test_a_damaged_or_missing_mat_file_is_named(folder: Path) -> None:
    (folder / "sbd" / "cls" / "s2.mat").write_bytes(b"MATLAB 5.0 MAT-file, but no more")
    with pytest.raises(UserError, match=r"s2\.mat cannot be read") as caught:
        arrange(folder)
    assert "\n" not in str(caught.value)
    (folder / "sbd" / "cls" / "s2.mat").unlink()
    with pytest.raises(UserError, match=r"no .*s2\.mat"):
        arrange(folder)
    with pytest.raises(UserError):
        read_sbd_mask(folder / "nothing.mat")


def test_without_a_network_it_says_which_files_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # Nothing listens there.
    with pytest.raises(UserError, match=r"put VOCtrainval_11-May-2012\.tar into") as caught:
        arrange(tmp_path)
    assert "\n" not in str(caught.value)


def test_without_a_network_it_says_so_of_sbd_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    (folder / "sbd").rename(folder / "elsewhere")
    with pytest.raises(UserError, match=r"put benchmark\.tgz into .*sbd"):
        arrange(folder)


@pytest.mark.parametrize("place", [".", "sbd", "VOCdevkit/VOC2012/SegmentationClassAug"])
def test_a_file_where_a_folder_belongs_is_named(folder: Path, place: str) -> None:
    target = folder / place
    if target.is_dir():
        shutil.rmtree(target)
    target.write_text("a file, not a folder")
    with pytest.raises(UserError, match=f"{target}: File exists; choose another DIR"):
        arrange(folder)


def test_a_list_that_is_not_utf_8_is_named(folder: Path) -> None:
    names = folder / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    names.write_bytes("v3\ncafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"val\.txt is not UTF-8 \(line 2\)"):
        arrange(folder)
