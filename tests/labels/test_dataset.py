import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.config import LabelledDataSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.labels.dataset import evenly
from cp2fast.labels.open import open_labelled

SETTINGS = LabelledDataSettings(workers=1)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(8):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / "images" / f"{number}.jpg")
        labels = np.full((30, 40), number % 3, np.uint8)
        Image.fromarray(labels).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


def test_two_folders_are_split_in_the_same_way_each_time(pairs: Path) -> None:
    data = open_labelled(SETTINGS, pairs)
    assert data.classes == ("0", "1", "2")
    assert (len(data.train), len(data.val)) == (6, 2)
    assert not set(data.train) & set(data.val)
    assert open_labelled(SETTINGS, pairs) == data


def test_two_folders_may_name_their_classes(pairs: Path) -> None:
    (pairs / "classes.txt").write_text("\ufeffsky\nroad\n\ntree\n", "utf-8")
    assert open_labelled(SETTINGS, pairs).classes == ("sky", "road", "tree")


def test_voc_layout_is_read_with_its_lists(tmp_path: Path) -> None:
    generate_scenes(tmp_path / "scenes", 10, seed=0)
    data = open_labelled(SETTINGS, tmp_path / "scenes")
    assert "background" in data.classes
    assert data.val


def test_what_is_missing_is_named(pairs: Path, tmp_path: Path) -> None:
    (pairs / "masks" / "3.png").unlink()
    with pytest.raises(UserError, match=r"no mask .*3\.png \(1 of 8 photos"):
        open_labelled(SETTINGS, pairs)
    shutil.rmtree(pairs / "masks")
    with pytest.raises(UserError, match="holds no labelled images"):
        open_labelled(SETTINGS, pairs)


def test_a_mistyped_path_is_no_question_of_the_layout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no folder or file .*nix: correct the path$"):
        open_labelled(SETTINGS, tmp_path / "nix")


def test_some_items_are_chosen_evenly_in_order() -> None:
    assert evenly(range(10), 4) == [0, 2, 5, 7]
    assert evenly(range(3), 8) == [0, 1, 2]
