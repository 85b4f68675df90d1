"""Splits as the tools that write them write them."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.config import LabelledDataSettings
from cp2fast.errors import UserError
from cp2fast.labels.dataset import LabelledData
from cp2fast.labels.open import open_labelled
from cp2fast.labels.survey import survey
from cp2fast.labels.voc_split import read_split
from tests import unprivileged

NAMES = [f"b{number}" for number in range(3)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name in NAMES:
        add(tmp_path, name)
    (tmp_path / "classes.txt").write_text("ground\nsky\n")
    for split in ("train", "val"):
        write(tmp_path, "\n".join(NAMES).encode(), split)
    return tmp_path


def add(root: Path, name: str, suffix: str = ".jpg", mask: str = ".png") -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[5:] = 1
    Image.new("RGB", (30, 20)).save(root / "JPEGImages" / f"{name}{suffix}", "JPEG")
    Image.fromarray(labels).save(root / "SegmentationClass" / f"{name}{mask}", "PNG")


def write(root: Path, content: bytes, split: str = "train") -> None:
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_bytes(content)


def stems(root: Path) -> list[str]:
    examples = read_split(root, "train", "data.train_split")
    assert all(example.image.is_file() and example.mask.is_file() for example in examples)
    return [example.image.stem for example in examples]


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_labelled(LabelledDataSettings(), root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


LINES = {
    "a label": "{} 1",
    "a label of a class it is not of": "{} -1",
    "a suffix": "{}.jpg",
    "its folder": "JPEGImages/{}.jpg",
    "its path on another machine": "/data/VOC2012/JPEGImages/{}.jpg",
    "its mask": "/JPEGImages/{0}.jpg /SegmentationClass/{0}.png",
    "its mask in a folder that is not there": "/JPEGImages/{0}.jpg /SegmentationClassAug/{0}.png",
    "its mask behind a comma": "JPEGImages/{0}.jpg,SegmentationClass/{0}.png",
    "its mask behind a tab": "JPEGImages/{0}.jpg\tSegmentationClass/{0}.png",
    "blanks": "  {}  ",
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_may_hold_more_than_the_name(root: Path, line: str, end: str) -> None:
    write(root, "".join(LINES[line].format(name) + end for name in NAMES).encode())
    assert stems(root) == NAMES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_split_may_be_in_any_unicode(root: Path, encoding: str) -> None:
    add(root, "caf\xe9")
    write(root, "b0\ncaf\xe9\n".encode(encoding))
    (root / "classes.txt").write_bytes("ground\r\nsky\r\n".encode(encoding))
    data = open_labelled(LabelledDataSettings(), root)
    assert [example.image.stem for example in data.train] == ["b0", "caf\xe9"]
    assert data.classes == ("ground", "sky")


def test_another_encoding_is_refused_with_the_one_to_save_as(root: Path) -> None:
    write(root, "b0\ncaf\xe9\n".encode("latin-1"))
    assert "train.txt is not UTF-8 (line 2): save it as UTF-8" in refusal(root)


@pytest.mark.parametrize(
    ("suffix", "mask"), [(".JPG", ".PNG"), (".Jpeg", ".png"), (".PNG", ".Png")]
)
def test_suffixes_may_be_in_capitals(root: Path, suffix: str, mask: str) -> None:
    add(root, "a", suffix, mask)
    for line in (b"a", b"a.jpg", b"/JPEGImages/a.jpg /SegmentationClass/a.png"):
        write(root, line)
        assert stems(root) == ["a"]


def test_accents_may_be_written_in_either_form(root: Path) -> None:
    add(root, unicodedata.normalize("NFD", "\xfcber"))
    write(root, "\xfcber\n".encode())
    assert len(stems(root)) == 1


def test_a_name_that_looks_like_more_is_a_name_first(root: Path) -> None:
    for name in ("a b (1)", "photo 7", "x.jpg"):
        add(root, name)
    add(root, "photo")
    write(root, b"a b (1)\nphoto 7\nx.jpg\nb0\n")
    assert stems(root) == ["a b (1)", "photo 7", "x.jpg", "b0"]


def test_a_mask_that_is_named_comes_before_a_better_folder(root: Path) -> None:
    (root / "SegmentationClassAug").mkdir()
    (root / "SegmentationClassAug" / "b0.png").write_bytes(b"")
    write(root, b"JPEGImages/b0.jpg SegmentationClass/b0.png\nb0\n")
    named, plain = read_split(root, "train", "data.train_split")
    assert named.mask.parent.name == "SegmentationClass"
    assert plain.mask.parent.name == "SegmentationClassAug"


def test_photos_and_masks_may_lie_in_folders_of_other_names(root: Path) -> None:
    (root / "JPEGImages").rename(root / "images")
    (root / "SegmentationClass").rename(root / "labels")
    write(root, b"images/b0.jpg labels/b0.png\n")
    (example,) = read_split(root, "train", "data.train_split")
    assert (example.image, example.mask) == (root / "images/b0.jpg", root / "labels/b0.png")


def test_what_is_missing_is_named(root: Path) -> None:
    (root / "JPEGImages" / "a.psd").write_bytes(b"")
    write(root, b"b0\na\n")
    assert "'a', but there is no image" in refusal(root)
    assert "there is a.psd" in refusal(root)
    (root / "SegmentationClass" / "b1.png").unlink()
    write(root, b"b0\nb1 1\n")
    assert "there is no mask" in refusal(root)
    assert "SegmentationClass/b1.png" in refusal(root)


def test_what_is_no_file_is_refused_and_not_waited_for(root: Path) -> None:
    (root / "JPEGImages" / "b0.jpg").unlink()
    os.mkfifo(root / "JPEGImages" / "b0.jpg")
    with pytest.raises(UserError, match=r"b0.jpg cannot be read: not a plain file"):
        survey(open_labelled(LabelledDataSettings(), root))
    split = root / "ImageSets" / "Segmentation" / "train.txt"
    split.unlink()
    split.mkdir()
    assert "train.txt is a folder: a file belongs there" in refusal(root)


READ_ALL = """
import sys
from pathlib import Path
from cp2fast.config import LabelledDataSettings
from cp2fast.labels.open import open_labelled
from cp2fast.labels.survey import survey
from cp2fast.errors import UserError
root = Path(sys.argv[1])
for name in sys.argv[2:]:
    mode = (root / name).stat().st_mode
    (root / name).chmod(0)
    try:
        survey(open_labelled(LabelledDataSettings(), root))
    except UserError as error:
        print(error)
    (root / name).chmod(mode)
"""


@pytest.mark.slow
def test_what_may_not_be_read_is_one_line(root: Path) -> None:
    locked = [".", "ImageSets/Segmentation/train.txt", "classes.txt", "SegmentationClass"]
    locked += ["JPEGImages", "ImageSets", "JPEGImages/b0.jpg", "SegmentationClass/b0.png"]
    done = unprivileged.run("-c", READ_ALL, root, *locked)
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(locked)
    for name, line in zip(locked, lines, strict=True):
        assert name.strip(".") in line
        assert "cannot be read" in line
        assert "Permission denied" in line


def opened(root: Path, labels: np.ndarray) -> LabelledData:
    for name in NAMES:
        Image.fromarray(labels).save(root / "SegmentationClass" / f"{name}.png")
    return open_labelled(LabelledDataSettings(), root)


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ((0, 1), None),
        (
            (0, 255),
            "hold 0 and 255 alone, and 255 is ignored: if it stands for 'sky', save it as 1",
        ),
        ((255, 255), "all pixels of train are 255, which is ignored"),
        ((0, 0), "1 of 2 classes occur in no mask of train: sky (1)"),
        ((1, 1), "1 of 2 classes occur in no mask of train: ground (0)"),
    ],
)
def test_classes_that_never_occur_are_warned_of(
    root: Path, values: tuple[int, int], warning: str | None
) -> None:
    labels = np.full((20, 30), values[0], np.uint8)
    labels[5:] = values[1]
    warnings = survey(opened(root, labels)).warnings
    if warning is None:
        assert not warnings
    else:
        assert len(warnings) == 1
        assert warning in warnings[0]
