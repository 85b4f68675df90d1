import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.scenes import VOID, generate_scenes
from cp2fast.errors import UserError

COUNT = 15


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "demo"
    generate_scenes(root, COUNT, seed=0)
    return root


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    names = [path.relative_to(root).as_posix() for path in files]
    return names, [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def label_of(root, name):
    with Image.open(root / "SegmentationClass" / f"{name}.png") as mask:
        return np.array(mask)


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    generate_scenes(tmp_path / "again", COUNT, seed=0)
    generate_scenes(tmp_path / "other", COUNT, seed=1)
    assert digest(tmp_path / "again") == digest(root)
    assert digest(tmp_path / "other")[1] != digest(root)[1]


def test_the_layout_is_that_of_voc(root):
    splits = root / "ImageSets" / "Segmentation"
    train = (splits / "train.txt").read_text().split()
    val = (splits / "val.txt").read_text().split()
    assert (len(train), len(val)) == (12, 3)
    assert not set(train) & set(val)
    assert (splits / "train_few.txt").read_text().split() == train[:2]
    names = {Path(os.fsdecode(name)).stem for name in list_images(root).names}
    assert names == set(train) | set(val)
    assert names == {path.stem for path in (root / "SegmentationClass").iterdir()}
    classes = (root / "classes.txt").read_text().splitlines()
    assert classes[0] == "background"
    assert len(set(classes)) == len(classes) == 6


def test_masks_are_palette_images_in_vocs_colours(root):
    with Image.open(root / "SegmentationClass" / "scene_00000.png") as mask:
        assert mask.mode == "P"
        palette = np.array(mask.getpalette()).reshape(-1, 3)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 5: (128, 0, 128)}
    known |= {15: (192, 128, 128), 20: (0, 64, 128), VOID: (224, 224, 192)}
    for label, colour in known.items():
        assert tuple(palette[label]) == colour


def test_each_image_has_its_mask_with_objects_and_a_thin_void_border(root):
    seen = set()
    images = list_images(root)
    for path in map(Path, map(images.name, range(len(images)))):
        label = label_of(root, path.stem)
        with Image.open(path) as image:
            assert (image.height, image.width) == label.shape
            assert all(120 <= side <= 260 for side in image.size)
        seen |= set(np.unique(label))
        # Where an object is not void it touches only itself.
        for a, b in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            solid = (a != VOID) & (b != VOID)
            assert np.array_equal(a[solid], b[solid])
        assert (label == VOID).mean() < 0.15
    assert seen == {0, 1, 2, 3, 4, 5, VOID}


def test_an_existing_folder_is_left_alone(root):
    before = digest(root)
    with pytest.raises(UserError, match="exists already"):
        generate_scenes(root, 2, seed=0)
    assert digest(root) == before


def test_of_two_at_a_time_one_writes_and_the_other_says_so(tmp_path):
    def generate(_):
        try:
            generate_scenes(tmp_path / "scenes", 6, seed=0)
        except UserError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(generate, range(2)))
    assert told.count(None) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    saved = []
    save = Image.Image.save

    def interrupted(self, *args, **kwargs):
        saved.append(args)
        if len(saved) == 6:
            raise KeyboardInterrupt
        save(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_scenes(tmp_path / "demo", 10, seed=0)
    assert list(tmp_path.iterdir()) == []
