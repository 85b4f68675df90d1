"""Five public layouts go through check, fine-tuning and prediction as they are."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.config import LabelledDataSettings
from cp2fast.labels.dataset import read_example
from cp2fast.labels.open import open_labelled
from tests.command_line import cp2fast
from tests.labels import public_layouts

TINY = [
    *("data.batch_size=2", "data.workers=1", "data.short_side=32", "model.size=32"),
    *("model.backbone=test_resnet", "model.head_channels=8", "train.device=cpu", "train.steps=2"),
    *("train.log=[]", "train.compile=off"),
]
LAYOUTS: dict[str, tuple[Callable[[Path], Path], str, tuple[str, ...]]] = {
    "voc": (public_layouts.voc, "VOC layout, masks of numbers", ("background", "car", "motorbike")),
    "ade20k": (public_layouts.ade20k, "ADE20K, masks of numbers", ("wall", "building", "sky")),
    "cityscapes": (public_layouts.cityscapes, "Cityscapes, masks of", ("road", "sky", "car")),
    "cvat": (public_layouts.cvat, "VOC layout, masks of colours", ("background", "road", "car")),
    "coco": (public_layouts.coco, "COCO JSON, outlines", ("background", "car", "road")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_public_layout_is_checked_trained_on_and_predicted(layout: str, tmp_path: Path) -> None:
    write, said, classes = LAYOUTS[layout]
    root = write(tmp_path / "data")
    picture, run, out = tmp_path / "check.png", tmp_path / "run", tmp_path / "masks"

    checked = cp2fast("data", "check", root, "--out", picture)
    assert checked.returncode == 0, checked.stderr
    assert said in checked.stdout.splitlines()[0]
    for name in classes:
        assert any(line.startswith(name) and "%" in line for line in checked.stdout.splitlines())
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 300

    trained = cp2fast("finetune-voc", *TINY, f"data.root={root}", "--out", run)
    assert trained.returncode == 0, trained.stderr
    result = json.loads((run / "result.json").read_text())
    assert set(classes) <= set(result["per_class"])

    photo = open_labelled(LabelledDataSettings(), root).val[0].image
    predicted = cp2fast("predict", run, photo, "--out", out)
    assert predicted.returncode == 0, predicted.stderr
    with Image.open(photo) as image, Image.open(out / f"{photo.stem}.png") as mask:
        assert mask.size == image.size
        assert int(np.asarray(mask).max()) < len(result["per_class"])


@pytest.mark.parametrize("kind", ["color", "labelTrainIds"])
def test_cityscapes_may_have_colours_or_train_ids_instead(kind: str, tmp_path: Path) -> None:
    root = public_layouts.cityscapes(tmp_path / "data")
    expected = open_labelled(LabelledDataSettings(), root)
    colours = np.zeros((256, 4), np.uint8)
    colours[[23, 7, 26]] = [[70, 130, 180, 255], [128, 64, 128, 255], [0, 0, 142, 255]]
    train_ids = np.full(256, 255, np.uint8)
    train_ids[[23, 7, 26]] = 10, 0, 13
    wanted = [read_example(example, expected)[1] for example in expected.train]
    for path in root.glob("gtFine/*/*/*_labelIds.png"):
        with Image.open(path) as image:
            values = np.asarray(image)
        table = colours if kind == "color" else train_ids
        public_layouts.grey(Path(str(path).replace("labelIds", kind)), table[values])
        path.unlink()
    data = open_labelled(LabelledDataSettings(), root)
    assert data.classes == expected.classes
    for example, labels in zip(data.train, wanted, strict=True):
        assert np.array_equal(read_example(example, data)[1], labels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_its_labels_are_those_of_the_scene(layout: str, tmp_path: Path) -> None:
    write, _, classes = LAYOUTS[layout]
    data = open_labelled(LabelledDataSettings(), write(tmp_path / "data"))
    assert len(data.train) + len(data.val) == public_layouts.COUNT
    for example in [*data.train, *data.val]:
        image, labels = read_example(example, data)
        numbers = [n for n in range(6) if public_layouts.scene(n)[0].shape == tuple(image.shape)]
        scene_HW = public_layouts.scene(numbers[0])[1]
        order = {"cityscapes": ("sky", "road", "car"), "coco": ("background", "road", "car")}
        meant = [data.classes.index(name) for name in order.get(layout, classes)]
        counted = labels.numpy() != 255
        assert np.array_equal(labels.numpy()[counted], np.array(meant)[scene_HW][counted])
        assert counted.mean() > 0.85
