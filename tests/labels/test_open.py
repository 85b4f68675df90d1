"""Layouts that are found by themselves, and what is refused in one line that names the fix."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.config import LabelledDataSettings
from cp2fast.data.scenes import voc_palette
from cp2fast.labels.open import open_labelled
from tests.labels.small_sets import (
    COUNT,
    NAMED,
    coco,
    expect_scene,
    in_colours,
    labels_of,
    mask,
    opened,
    pairs,
    photo,
    refusal,
)


def split_outside(root: Path) -> None:
    for number in range(COUNT):
        split = "train" if number < 3 else "valid"
        photo(root / f"images/{split}/{number}.jpg", number)
        mask(root / f"labels/{split}/{number}.png", labels_of(number))
    photo(root / "images/test/9.jpg", 9)  # as often, without a mask


def split_inside(root: Path) -> None:
    for number in range(COUNT):
        split = "train" if number < 3 else "val"
        photo(root / f"{split}/images/{number}.jpg", number)
        mask(root / f"{split}/masks/{number}_mask.png", labels_of(number))


def camvid(root: Path) -> None:
    for number in range(COUNT):
        split = "train" if number < 3 else "val"
        photo(root / f"{split}/{number}.png", number)
        mask(root / f"{split}_labels/{number}_L.png", in_colours(labels_of(number)))
    rows = "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in NAMED.items())
    (root / "class_dict.csv").write_text("name,r,g,b\n" + rows)


def labelme(root: Path) -> None:
    for number in range(COUNT):
        photo(root / f"JPEGImages/{number}.jpg", number)
        palette = Image.fromarray(labels_of(number))
        palette.putpalette(voc_palette())
        path = root / f"SegmentationClassPNG/{number}.png"
        path.parent.mkdir(exist_ok=True)
        palette.save(path)
        mask(root / f"SegmentationClassVisualization/{number}.jpg", in_colours(labels_of(number)))
    (root / "SegmentationClass").mkdir()
    np.save(root / "SegmentationClass/0.npy", labels_of(0))
    (root / "class_names.txt").write_text("_background_\nroad\nsea\n")


def csv_with_splits(root: Path) -> None:
    lines = ["split,mask,image"]
    for number in range(COUNT):
        photo(root / f"a/{number}.jpg", number)
        mask(root / f"b/m{number}.png", labels_of(number))
        lines.append(f"{'train' if number < 3 else 'val'},b/m{number}.png,a/{number}.jpg")
    (root / "pairs.csv").write_text("\n".join(lines))


LAYOUTS = {
    "split outside": (split_outside, "folders images and labels", (3, 2)),
    "split inside": (split_inside, "folders train, val", (3, 2)),
    "camvid": (camvid, "masks of colours", (3, 2)),
    "labelme": (labelme, "folders JPEGImages and SegmentationClassPNG", (3, 2)),
    "csv": (csv_with_splits, "CSV of pairs", (3, 2)),
    "pairs": (pairs, "folders images and masks", (3, 2)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_found_and_said(layout: str, tmp_path: Path) -> None:
    write, said, sizes = LAYOUTS[layout]
    write(tmp_path)
    data = opened(tmp_path)
    assert said in data.said
    assert "3 images to learn from, 2 to score on" in data.said
    assert (len(data.train), len(data.val)) == sizes
    expect_scene(data)


def table_of_run_lengths(root: Path) -> None:
    """As in Kaggle's TGS Salt: the masks a second time."""
    (root / "train.csv").write_text(f"id,rle_mask\n0,1 5\n1,{'9 ' * 100_000}\n")


def table_of_classes(root: Path) -> None:
    (root / "data.csv").write_text("filename,label\n0.jpg,cat\n")


def boxes(root: Path) -> None:
    content = json.loads((coco(root / "annotations") / "annotations.json").read_text())
    del content["annotations"][0]["segmentation"]
    (root / "annotations/annotations.json").write_text(json.dumps(content))


def other_json(root: Path) -> None:
    (root / "meta.json").write_text('{"images": 5}')
    (root / "empty.json").write_text("")


@pytest.mark.parametrize("beside", [table_of_run_lengths, table_of_classes, boxes, other_json])
@pytest.mark.parametrize("layout", [split_inside, pairs])
def test_other_tables_and_json_beside_the_folders_are_no_layout(
    layout: Callable, beside: Callable, tmp_path: Path
) -> None:
    layout(tmp_path)
    beside(tmp_path)
    data = opened(tmp_path)
    assert data.said.startswith("folders ")
    expect_scene(data)


def test_images_without_a_split_are_split_by_the_seed(tmp_path: Path) -> None:
    root = pairs(tmp_path)
    assert opened(root).val == opened(root).val
    assert len({tuple(opened(root, val_seed=seed).val) for seed in range(4)}) > 1
    assert len(opened(root, val_fraction=0.2).val) == 1
    assert "data.val_fraction=0.05 of 5 images leaves none to score on" in refusal(
        root, val_fraction=0.05
    )


@pytest.mark.parametrize(
    "rule",
    ["{dir}/../labels/{stem}_mask.png", "labels/{stem}_mask.png", "{root}/labels/{stem}_mask.png"],
)
def test_a_template_finds_the_masks(rule: str, tmp_path: Path) -> None:
    for number in range(COUNT):
        photo(tmp_path / f"photos/{number}.jpg", number)
        mask(tmp_path / f"labels/{number}_mask.png", labels_of(number))
    expect_scene(opened(tmp_path, masks=rule))
    assert "has {stem:>9}: it takes" in refusal(tmp_path, masks="{dir}/{stem:>9}.png")
    assert "data.masks={dir}/{x}.png has {x}: it takes" in refusal(tmp_path, masks="{dir}/{x}.png")
    assert "needs {stem} or {name}" in refusal(tmp_path, masks="labels/mask.png")
    (tmp_path / "labels/3_mask.png").unlink()
    assert "3_mask.png (1 of 5 photos have none" in refusal(tmp_path, masks=rule)


@pytest.mark.parametrize("root", [".", "labels/..", "../data"])
def test_a_template_is_of_a_folder_however_it_is_written(root: str, tmp_path: Path) -> None:
    for number in range(COUNT):
        photo(tmp_path / f"data/photos/{number}.jpg", number)
        mask(tmp_path / f"data/labels/{number}.png", labels_of(number))
    expect_scene(opened(tmp_path / "data" / root, masks="{dir}/../labels/{stem}.png"))


@pytest.mark.parametrize("root", ["@{}/list.txt", "{}/photos/*.jpg", "{}/photos/0.jpg", "{}/none"])
def test_a_template_needs_a_folder(root: str, tmp_path: Path) -> None:
    photo(tmp_path / "photos/0.jpg", 0)
    mask(tmp_path / "photos/0.png", labels_of(0))
    (tmp_path / "list.txt").write_text(f"{tmp_path}/photos/0.jpg\n")
    message = refusal(Path(root.format(tmp_path)), masks="{dir}/{stem}.png")
    assert "needs a folder of images on this machine, which" in message


def test_names_that_pair_in_two_ways_are_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path)
    photo(root / "images/3.png", 3)
    message = refusal(root)
    assert f"3.jpg and {root}/images/3.png go together with the same mask" in message
    assert message == refusal(root, masks="{dir}/../masks/{stem}.png")
    (root / "images/3.png").unlink()
    mask(root / "masks/3.tif", labels_of(3))
    assert "3.jpg goes together with" in refusal(root)


def test_names_that_pair_in_no_way_are_refused_with_the_template(tmp_path: Path) -> None:
    root = pairs(tmp_path)
    for path in sorted((root / "masks").iterdir()):
        path.rename(path.with_name(f"segmented-{path.name}"))
    assert "data.masks={dir}/../labels/{stem}_mask.png" in refusal(root)


def test_what_a_csv_names_wrongly_is_told_by_its_line(tmp_path: Path) -> None:
    csv_with_splits(tmp_path)
    file = tmp_path / "pairs.csv"
    file.write_text(file.read_text().replace("a/4.jpg", "a/nothing.jpg"))
    assert "pairs.csv, line 6: there is no file" in refusal(tmp_path)
    file.write_text("image,mask\na/1.jpg\n")
    assert "line 2: 'a/1.jpg' is not image,mask" in refusal(file)


def two_csv_files(root: Path) -> None:
    csv_with_splits(root)
    head, *rows = (root / "pairs.csv").read_text().splitlines()
    (root / "pairs.csv").unlink()
    for split in ("train", "val"):
        own = [row for row in rows if row.startswith(split)]
        (root / f"{split}.csv").write_text("\n".join([head, *own]))


@pytest.mark.parametrize(
    "write", [pairs, coco, csv_with_splits, two_csv_files, split_inside, split_outside, camvid]
)
def test_a_split_that_is_named_and_not_there_is_refused(write: Callable, tmp_path: Path) -> None:
    write(tmp_path)
    for kind in ("train", "val"):
        message = refusal(tmp_path, **{f"{kind}_split": "nowhere"})
        assert f"data.{kind}_split=nowhere: no " in message
        assert "has that name: correct it" in message


def scored(root: Path, **settings: object) -> list[str]:
    return [example.image.stem for example in opened(root, **settings).val]


def test_a_csv_is_scored_on_the_split_that_is_named(tmp_path: Path) -> None:
    rows = [
        f"images/{number}.jpg,masks/{number}.png,{split}\n"
        for number, split in enumerate(["train", "Train", "val", "test", "test"])
    ]
    pairs(tmp_path)
    (tmp_path / "pairs.csv").write_text("image,mask,split\n" + "".join(rows))
    assert scored(tmp_path) == ["2"]
    assert scored(tmp_path, val_split="test") == ["3", "4"]
    swapped = opened(tmp_path, train_split="test", val_split="train")
    assert [example.image.stem for example in swapped.train] == ["3", "4"]


def test_csv_files_are_learned_from_and_scored_on_by_the_names_of_the_splits(
    tmp_path: Path,
) -> None:
    lines = [f"images/{number}.jpg,masks/{number}.png\n" for number in range(COUNT)]
    pairs(tmp_path)
    for name, rows in {"train": lines, "Fold0": lines[:2], "fold1": lines[2:]}.items():
        (tmp_path / f"{name}.csv").write_text("".join(rows))
    assert scored(tmp_path, train_split="fold1", val_split="fold0") == ["0", "1"]
    alone = opened(tmp_path, train_split="Fold0", val_fraction=0.5)
    assert "1 image to learn from, 1 to score on (drawn" in alone.said


@pytest.mark.parametrize("layout", ["csv", "split outside"])
def test_a_split_to_score_on_that_is_named_alone_is_learned_from_by_none(
    layout: str, tmp_path: Path
) -> None:
    """The rest is learned from, as in a cross-validation whose folds have numbers."""
    for number in range(COUNT):
        fold = "fold0" if number < 2 else f"fold{number}"
        photo(tmp_path / f"images/{fold}/{number}.jpg", number)
        mask(tmp_path / f"masks/{fold}/{number}.png", labels_of(number))
        if layout == "csv":
            with (tmp_path / "pairs.csv").open("a") as file:
                place = f"{fold}/{number}"
                file.write(f"images/{place}.jpg,masks/{place}.png,{fold}\n")
    data = opened(tmp_path, val_split="fold0")
    assert [example.image.stem for example in data.val] == ["0", "1"]
    assert [example.image.stem for example in data.train] == ["2", "3", "4"]


def test_folders_of_splits_are_scored_on_the_one_that_is_named(tmp_path: Path) -> None:
    split_inside(tmp_path)
    (tmp_path / "val").rename(tmp_path / "Test")
    assert scored(tmp_path, val_split="test") == ["3", "4"]
    (tmp_path / "train").rename(tmp_path / "fold1")
    assert "no folder train to learn from" in refusal(tmp_path, val_split="test")
    assert scored(tmp_path, train_split="fold1", val_split="test") == ["3", "4"]


def test_settings_of_labels_are_those_of_the_defaults(tmp_path: Path) -> None:
    """A folder opened without settings, as the probes of a pretraining do."""
    data = open_labelled(LabelledDataSettings(), pairs(tmp_path), 1)
    assert data.classes == ("0", "1", "2")
