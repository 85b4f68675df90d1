"""Whether the colours of features follow the objects, with masks made for the purpose."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.pretrain.objects import ObjectsInColours, objects_in_colours


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two photos whose left half is an object, and features that follow it only at the end."""
    left = np.zeros((2, 4, 4, 3))
    left[:, :, :2] = 1
    noise = np.random.default_rng(0).standard_normal(left.shape)
    names = np.array(["JPEGImages/a.jpg", "JPEGImages/b.jpg"])
    np.savez(tmp_path / "features.npz", first=noise, last=left, names=names)
    for name in ("a", "b"):
        labels = np.zeros((40, 60), np.uint8)
        labels[:, :30] = 3
        labels[0, 0] = 255
        Image.fromarray(labels).save(tmp_path / f"{name}.png")
    return tmp_path


def test_colours_that_follow_the_objects_are_told_from_noise(run: Path) -> None:
    found = objects_in_colours(run, run)
    assert found is not None
    assert found.last == pytest.approx(1)
    assert found.first < 0.3
    assert str(found).startswith("the features separate objects from background: they explain 100%")


def test_colours_that_do_not_are_called_so() -> None:
    line = str(ObjectsInColours(first=0.05, last=0.1))
    assert "so few steps do not separate objects from background" in line
    assert "10% of the colours in features.png, 5% before the first step" in line


def test_a_photo_that_is_all_background_and_a_missing_mask_are_left_out(run: Path) -> None:
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(run / "a.png")
    found = objects_in_colours(run, run)
    assert found is not None
    assert found.last == pytest.approx(1)
    (run / "b.png").unlink()
    assert objects_in_colours(run, run) is None


def test_without_features_from_before_the_first_step_nothing_is_said(run: Path) -> None:
    kept = dict(np.load(run / "features.npz"))
    np.savez(run / "features.npz", last=kept["last"], names=kept["names"])
    assert objects_in_colours(run, run) is None
    (run / "features.npz").unlink()
    assert objects_in_colours(run, run) is None
