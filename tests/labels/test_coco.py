"""COCO's JSON that cannot be used is refused in one line that names what is wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cp2fast.errors import UserError
from cp2fast.labels.survey import survey
from tests.labels.small_sets import all_labels, coco, opened, refusal


def test_cocos_json_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    assert opened(coco(tmp_path), val_fraction=0.5).classes == ("background", "car")
    assert "category 7" in refusal(coco(tmp_path, category_id=7), val_fraction=0.5)
    assert "without segmentation" in refusal(coco(tmp_path, segmentation=None), val_fraction=0.5)
    broken = refusal(coco(tmp_path, segmentation={"size": [3, 3], "counts": [9]}), val_fraction=0.5)
    assert "run lengths of 3 x 3 pixels for an image of 16 x 12" in broken
    broken = refusal(coco(tmp_path, segmentation="0 0 4 0"), val_fraction=0.5)
    assert "text for a segmentation" in broken
    shutil.rmtree(coco(tmp_path) / "images")
    assert "names the image a.jpg, which is in none of" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["instances_val2017.json", "valid/_annotations.coco.json"])
def test_a_file_that_is_the_only_one_is_drawn_from_even_by_the_name_of_a_split(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    (coco(tmp_path) / "annotations.json").rename(file)
    for root in (tmp_path, file):
        assert "1 to score on (drawn" in opened(root, val_fraction=0.5).said


def files_of_coco(root: Path, *names: str) -> Path:
    """Files of two images each."""
    for number, name in enumerate(names):
        part = coco(root / f"part{number}")
        content = json.loads((part / "annotations.json").read_text())
        for image in content["images"]:
            image["file_name"] = f"part{number}/images/{image['file_name']}"
        (part / "annotations.json").unlink()
        (root / name).write_text(json.dumps(content))
    return root


def test_all_files_of_no_split_are_drawn_from(tmp_path: Path) -> None:
    files_of_coco(tmp_path, "batch1.json", "batch2.json", "batch3.json")
    assert "4 images to learn from, 2 to score on (drawn" in opened(tmp_path, val_fraction=0.4).said
    second = opened(tmp_path, train_split="batch2", val_split="batch3")
    assert {example.image.parts[-3] for example in second.train} == {"part1"}
    assert {example.image.parts[-3] for example in second.val} == {"part2"}


def test_a_file_of_images_without_objects_is_taken_with_the_others(tmp_path: Path) -> None:
    file = files_of_coco(tmp_path, "batch1.json", "batch2.json") / "batch2.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    assert "2 images to learn from, 2 to score on" in opened(tmp_path, val_fraction=0.5).said


def test_a_category_0_that_one_file_alone_has_annotations_of_is_a_class_of_all(
    tmp_path: Path,
) -> None:
    files_of_coco(tmp_path, "train.json", "val.json")
    for name, number in (("train.json", 0), ("val.json", 1)):
        content = json.loads((tmp_path / name).read_text())
        content["categories"] = [{"id": 0, "name": "car"}, {"id": 1, "name": "tree"}]
        content["annotations"][0]["category_id"] = number
        (tmp_path / name).write_text(json.dumps(content))
    data = opened(tmp_path)
    assert data.classes == ("background", "car", "tree")
    painted = [set(np.unique(labels)) for labels in all_labels(data)]
    assert painted == [{0, 1}, {0, 2}, {0}, {0}]  # a.jpg of both files, then b.jpg


def test_files_of_one_split_are_taken_together(tmp_path: Path) -> None:
    files_of_coco(tmp_path, "train_a.json", "train_b.json", "VAL.json", "test.json")
    assert "4 images to learn from, 2 to score on (as split there" in opened(tmp_path).said
    assert {one.image.parts[-3] for one in opened(tmp_path, val_split="test").val} == {"part3"}


@pytest.mark.parametrize("name", ["valley", "devices"])
def test_a_word_that_begins_like_a_split_is_none(name: str, tmp_path: Path) -> None:
    files_of_coco(tmp_path, f"{name}_train.json", f"{name}_val.json")
    data = opened(tmp_path)
    assert "2 images to learn from, 2 to score on (as split there" in data.said
    assert {example.image.parts[-3] for example in data.val} == {"part1"}


def test_years_of_coco_are_not_mixed(tmp_path: Path) -> None:
    years = ("train2014", "val2014", "train2017", "val2017")
    files_of_coco(tmp_path, *(f"instances_{name}.json" for name in years))
    assert "train2014 and train2017: name one, as in data.train_split=train2017" in refusal(
        tmp_path
    )
    data = opened(tmp_path, train_split="train2014", val_split="val2017")
    assert {example.image.parts[-3] for example in data.train} == {"part0"}
    assert {example.image.parts[-3] for example in data.val} == {"part3"}


def test_an_image_in_two_files_is_refused(tmp_path: Path) -> None:
    file = coco(tmp_path) / "annotations.json"
    (tmp_path / "again.json").write_text(file.read_text())
    message = refusal(tmp_path)
    assert "again.json and" in message
    assert "annotations.json both have annotations of" in message
    assert len(opened(tmp_path, train_split="again", val_fraction=0.5).train) == 1


@pytest.mark.parametrize("counts", [[5], [0, 10**9], "", "5", "oooo"])
def test_run_lengths_that_do_not_fill_their_image_are_refused(
    tmp_path: Path, counts: object
) -> None:
    root = coco(tmp_path, segmentation={"size": [12, 16], "counts": counts})
    data = opened(root, val_fraction=0.5)
    with pytest.raises(UserError, match=r"pixels in all for an image of 16 x 12"):
        survey(data)


@pytest.mark.parametrize("value", [float("nan"), 1e9, "4", [4, 4]])
def test_a_coordinate_that_no_outline_has_is_refused(tmp_path: Path, value: object) -> None:
    data = opened(coco(tmp_path, segmentation=[[0, 0, value, 0, 4, 4]]), val_fraction=0.5)
    with pytest.raises(UserError, match=r"a segmentation with the coordinate"):
        survey(data)


def test_numbers_of_cocos_json_that_no_mask_has_are_refused(tmp_path: Path) -> None:
    path = coco(tmp_path) / "annotations.json"
    content = json.loads(path.read_text())
    for key, change, message in [
        ("categories", {"id": 100_000}, "category of the number 100000"),
        ("images", {"height": 10**9}, "data.max_pixels"),
        ("images", {"height": float("inf")}, "not in COCO's format"),
        ("images", {"id": "b"}, "one id to several images"),
        ("images", {"file_name": "x" * 300}, "File name too long"),
        ("images", {"file_name": "b.jpg"}, "several ids to the image"),
        ("images", {"file_name": "./b.jpg"}, "several ids to the image"),
        ("annotations", {"image_id": 1}, "has annotations of the image 1 and others"),
    ]:
        first, *others = content[key]
        path.write_text(json.dumps(content | {key: [first | change, *others]}))
        assert message in refusal(tmp_path, val_fraction=0.5)
