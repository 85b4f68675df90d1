"""Data sets of five small images with masks, opened or refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.config import FinetuneSettings
from cp2fast.errors import UserError
from cp2fast.labels.dataset import LabelledData, read_example
from cp2fast.labels.open import open_labelled
from cp2fast.labels.survey import survey

TABLE = np.array([[0, 0, 0], [128, 64, 128], [0, 130, 180]], np.uint8)
NAMED = {"sky": [0, 0, 0], "road": [128, 64, 128], "sea": [0, 130, 180]}
COUNT = 5


def labels_of(number: int) -> np.ndarray:
    labels = np.zeros((12, 16 + number), np.uint8)
    labels[4:8], labels[8:] = 1, 2
    return labels


def photo(path: Path, number: int, height: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16 + number, height), (number, 9, 9)).save(path)


def mask(path: Path, values: np.ndarray, **how: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **how)


def opened(root: Path, **settings: object) -> LabelledData:
    words = {"root": root, "val_fraction": 0.4, **settings}
    given = FinetuneSettings.model_validate({"data": words}).data
    return open_labelled(given, root, 1)


def refusal(root: Path, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        survey(opened(root, **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def all_labels(data: LabelledData) -> list[np.ndarray]:
    examples = sorted([*data.train, *data.val], key=lambda example: example.image.name)
    return [read_example(example, data)[1].numpy() for example in examples]


def pairs(root: Path, coded: Callable[[np.ndarray], np.ndarray] = lambda x: x, **how) -> Path:
    for number in range(COUNT):
        photo(root / f"images/{number}.jpg", number)
        mask(root / f"masks/{number}.png", coded(labels_of(number)), **how)
    return root


def in_colours(labels: np.ndarray) -> np.ndarray:
    return TABLE[labels]


def expect_scene(data: LabelledData) -> None:
    for number, labels in enumerate(all_labels(data)):
        assert np.array_equal(labels, labels_of(number))


def coco(root: Path, **annotation: object) -> Path:
    photo(root / "images/a.jpg", 0)
    photo(root / "images/b.jpg", 0)
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 12, "width": 16} for n in "ab"]
    one = {"image_id": "a", "category_id": 1, "area": 4, "iscrowd": 0}
    one |= {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]], **annotation}
    content = {"images": images, "annotations": [one], "categories": [{"id": 1, "name": "car"}]}
    (root / "annotations.json").write_text(json.dumps(content))
    return root
