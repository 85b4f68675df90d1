"""Outlines of COCO's format against pycocotools' own reading of the file, and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from cp2fast.config import LabelledDataSettings
from cp2fast.labels.dataset import read_example
from cp2fast.labels.open import open_labelled
from cp2fast.labels.painted import Annotations, Segment, paint
from tests.labels import public_layouts
from tests.labels.small_sets import coco, opened


def test_the_labels_are_what_pycocotools_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = public_layouts.coco(tmp_path / "coco")
    data = open_labelled(LabelledDataSettings(), root, 1)
    file = root / "annotations/instances_train2017.json"
    reader = COCO(file)
    numbers = {image["file_name"]: image["id"] for image in reader.loadImgs(reader.getImgIds())}
    labels = {3: data.classes.index("car"), 149: data.classes.index("road")}
    for example in data.train:
        annotations = reader.loadAnns(reader.getAnnIds(numbers[example.image.name]))
        expected = np.zeros(read_example(example, data)[1].shape, np.uint8)
        for one in sorted(annotations, key=lambda one: -one["area"]):
            label = 255 if one["iscrowd"] else labels[one["category_id"]]
            expected[reader.annToMask(one) == 1] = label
        assert np.array_equal(read_example(example, data)[1].numpy(), expected)
    capsys.readouterr()


SMALL = [[4, 4, 6, 4, 6, 6, 4, 6]]
LARGE = [[0, 0, 10, 0, 10, 10, 0, 10]]
LARGE_RUNS = {"size": [12, 16], "counts": [0, *([10, 2] * 9), 10, 74]}


@pytest.mark.parametrize("large", [LARGE, LARGE_RUNS], ids=["polygon", "runs"])
@pytest.mark.parametrize("area", [{}, {"area": 0}, {"area": None}], ids=["absent", "0", "null"])
def test_a_smaller_one_lies_on_a_larger_whatever_their_order(
    tmp_path: Path, large: object, area: dict[str, object]
) -> None:
    path = coco(tmp_path) / "annotations.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 1, "name": "large"}, {"id": 2, "name": "small"}]
    both = [{"category_id": 1, "segmentation": large}, {"category_id": 2, "segmentation": SMALL}]
    for order in (both, both[::-1]):
        content["annotations"] = [{"image_id": "a"} | one | area for one in order]
        path.write_text(json.dumps(content))
        data = opened(tmp_path, val_fraction=0.5)
        [example] = [one for one in (*data.train, *data.val) if one.image.stem == "a"]
        labels = read_example(example, data)[1]
        assert [labels[y, x].item() for y, x in ((5, 5), (1, 1), (11, 11))] == [2, 1, 0]


def test_an_annotation_without_points_paints_nothing() -> None:
    empty = Annotations(Path("x.json"), "a", (4, 4), 7, (Segment(1, []),))
    assert (paint(empty) == 7).all()


def test_a_category_of_the_number_0_is_told_from_the_background(tmp_path: Path) -> None:
    root = public_layouts.coco(tmp_path / "coco")
    for path in (root / "annotations").glob("instances*.json"):
        content = json.loads(path.read_text())
        content["categories"][0]["id"] = 0
        for one in content["annotations"]:
            one["category_id"] = 0 if one["category_id"] == 3 else one["category_id"]
        path.write_text(json.dumps(content))
    data = open_labelled(LabelledDataSettings(), root, 1)
    assert data.classes == ("background", "car", "road")
    labels = read_example(data.train[0], data)[1]
    assert set(labels.unique().tolist()) == {0, 1, 2, 255}
