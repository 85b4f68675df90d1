"""Layouts that are found by themselves, and what is refused in one line that names the fix."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.config import FinetuneSettings, LabelledDataSettings
from cp2fast.data.scenes import voc_palette
from cp2fast.errors import UserError
from cp2fast.labels.dataset import LabelledData, read_example
from cp2fast.labels.open import open_labelled
from cp2fast.labels.survey import shares_in_words, survey

TABLE = np.array([[0, 0, 0], [128, 64, 128], [0, 130, 180]], np.uint8)
NAMED = {"sky": [0, 0, 0], "road": [128, 64, 128], "sea": [0, 130, 180]}
COUNT = 5


def labels_of(number: int) -> np.ndarray:
    labels = np.zeros((12, 16 + number), np.uint8)
    labels[4:8], labels[8:] = 1, 2
    return labels


def photo(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16 + number, 12), (number, 9, 9)).save(path)


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


@pytest.mark.parametrize("how", ["palette", "grey", "16 bits", "rgb grey", "bmp", "tif"])
def test_masks_of_numbers_are_read_as_they_are(how: str, tmp_path: Path) -> None:
    for number in range(COUNT):
        photo(tmp_path / f"images/{number}.jpg", number)
        labels, suffix = labels_of(number), how if how in ("bmp", "tif") else "png"
        path = tmp_path / f"masks/{number}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        if how == "16 bits":
            labels = np.array([300, 40_000, 7], np.uint16)[labels]
        if how == "rgb grey":
            labels = np.repeat(labels[..., None], 3, axis=-1)
        image = Image.fromarray(labels)
        if how == "palette":
            image.putpalette([7, 7, 7] * 256)
        image.save(path)
    data = opened(tmp_path)
    if how == "16 bits":
        assert data.classes == ("7", "300", "40000")
        assert np.array_equal(all_labels(data)[0], np.array([1, 2, 0])[labels_of(0)])
    else:
        assert data.classes == ("0", "1", "2")
        expect_scene(data)


@pytest.mark.parametrize(
    "source", ["data.colours", "classes.csv", "labelmap.txt", "data.classes", "palette"]
)
def test_masks_of_colours_are_told_by_what_names_them(source: str, tmp_path: Path) -> None:
    root, settings = pairs(tmp_path, in_colours), {}
    if source == "data.colours":
        settings = {"colours": NAMED}
    elif source == "data.classes":
        settings = {"classes": {"names": list(NAMED), "colours": ["#000000", "#804080", "0082b4"]}}
    elif source == "classes.csv":
        rows = "".join(f"{name};{r};{g};{b}\n" for name, (r, g, b) in NAMED.items())
        (root / "classes.csv").write_text("Name;R;G;B\n" + rows)
    else:
        rows = "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in NAMED.items())
        (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + rows)
    if source == "palette":  # in an order of its own, as a drawing program writes it
        for path in (root / "masks").iterdir():
            with Image.open(path) as image:
                image.convert("P", palette=Image.Palette.ADAPTIVE, colors=3).save(path)
    data = opened(root, **settings)
    assert data.classes == ("sky", "road", "sea")
    assert data.colours == tuple(map(tuple, NAMED.values()))
    expect_scene(data)


def test_colours_that_nothing_names_are_listed_with_their_count(tmp_path: Path) -> None:
    message = refusal(pairs(tmp_path, in_colours))
    assert "#804080 (360 pixels)" in message
    assert "data.colours" in message


def test_unknown_colours_are_named_with_their_count(tmp_path: Path) -> None:
    root = pairs(tmp_path, in_colours)
    for number in (1, 3):
        values = in_colours(labels_of(number))
        values[0, :3] = (1, 2, 3)
        values[1, 0] = (200, 0, 0)
        mask(root / f"masks/{number}.png", values)
    message = refusal(root, colours=NAMED)
    assert "2 colours of no class, #010203 (6 pixels), #c80000 (2 pixels)" in message
    assert "data.unknown=ignore" in message
    ignoring = all_labels(opened(root, colours=NAMED, unknown="ignore"))[1]
    assert (ignoring == 255).sum() == 4
    near = all_labels(opened(root, colours=NAMED, nearest="on"))[1]
    assert (near[0, :3] == 0).all()
    assert near[1, 0] == 255  # near to none


def test_the_edges_of_a_jpeg_are_told_from_labels(tmp_path: Path) -> None:
    for number in range(COUNT):
        photo(tmp_path / f"images/{number}.jpg", number)
        scene = np.kron(labels_of(number), np.ones((8, 8), np.uint8))
        Image.new("RGB", scene.shape[::-1]).save(tmp_path / f"images/{number}.jpg")
        mask(tmp_path / f"masks/{number}.jpg", in_colours(scene), quality=80)
    assert "is a JPEG, which mixes colours" in refusal(tmp_path, colours=NAMED)
    data = opened(tmp_path, colours=NAMED, nearest="on")
    for number, labels in enumerate(all_labels(data)):
        scene = np.kron(labels_of(number), np.ones((8, 8), np.uint8))
        counted = labels != 255
        assert counted.mean() > 0.95
        assert (labels == scene)[counted].mean() > 0.99
    [note] = [line for line in survey(data).warnings if "nearest class" in line]
    assert "data.nearest=on" in note


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_binary_masks_of_0_and_255_have_two_classes(suffix: str, tmp_path: Path) -> None:
    for number in range(COUNT):
        photo(tmp_path / f"images/{number}.jpg", number)
        values = np.where(labels_of(number) == 2, np.uint8(255), np.uint8(0))
        values = np.kron(values, np.ones((8, 8), np.uint8)) if suffix == "jpg" else values
        Image.new("RGB", values.shape[::-1]).save(tmp_path / f"images/{number}.jpg")
        mask(
            tmp_path / f"masks/{number}.{suffix}",
            values,
            **({"quality": 70} if suffix == "jpg" else {}),
        )
    if suffix == "jpg":
        assert "nearly black and white: set data.nearest=on" in refusal(tmp_path)
    data = opened(tmp_path, nearest="on" if suffix == "jpg" else "off")
    assert data.classes == ("background", "foreground")
    assert "binary masks" in data.said
    labels = all_labels(data)[0]
    assert (labels[-1] == 1).all()
    assert (labels[0] == 0).all()
    assert opened(tmp_path, classes=["wall", "crack"], nearest="on").classes == ("wall", "crack")


def test_white_of_two_values_is_not_a_class_and_its_border(tmp_path: Path) -> None:
    """Masks of 0 and 255 in which a tool has left some 254: the 255 would be ignored."""
    pairs(tmp_path, lambda labels: np.array([0, 254, 255], np.uint8)[labels])
    assert "hold 254 beside 255, which is ignored: set data.nearest=on" in refusal(tmp_path)
    data = opened(tmp_path, nearest="on")
    assert data.classes == ("background", "foreground")
    assert all(set(np.unique(labels)) == {0, 1} for labels in all_labels(data))
    assert len(opened(tmp_path, classes={0: "wall", 254: "crack"}).classes) == 2


def test_masks_of_different_kinds_are_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path)
    mask(root / "masks/2.png", in_colours(labels_of(2)))
    message = refusal(root)
    assert "masks of different kinds" in message
    assert "2.png holds colours (RGB)" in message


def test_a_mask_of_numbers_among_colours_is_told(tmp_path: Path) -> None:
    root = pairs(tmp_path, in_colours)
    mask(root / "masks/4.png", labels_of(4) + 1)
    assert "masks of different kinds" in refusal(root, colours=NAMED)
    for number in range(COUNT, 60):  # more than are looked at before all are read
        photo(root / f"images/{number}.jpg", 0)
        mask(root / f"masks/{number}.png", in_colours(labels_of(0)))
    message = refusal(root, colours=NAMED)
    assert "4.png" in message
    assert "it is a mask of numbers among masks of colours" in message


def test_names_that_pair_in_two_ways_are_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path)
    photo(root / "images/3.png", 3)
    message = refusal(root)
    assert "3.jpg and 3.png go together with the same mask" in message
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


def test_a_table_tells_the_shares_of_the_pixels(tmp_path: Path) -> None:
    data = opened(pairs(tmp_path), classes=["sky", "road", "sea", "moon"])
    found = survey(data)
    lines = shares_in_words(found, data)
    assert lines[0].split() == ["class", "train", "val"]
    assert lines[1].split() == ["sky", "33.33", "%", "33.33", "%"]
    assert lines[4].split() == ["moon", "none", "none"]
    assert any("moon (3)" in warning and "add images" in warning for warning in found.warnings)


def coco(root: Path, **annotation: object) -> Path:
    photo(root / "images/a.jpg", 0)
    photo(root / "images/b.jpg", 0)
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 12, "width": 16} for n in "ab"]
    one = {"image_id": "a", "category_id": 1, "area": 4, "iscrowd": 0}
    one |= {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]], **annotation}
    content = {"images": images, "annotations": [one], "categories": [{"id": 1, "name": "car"}]}
    (root / "annotations.json").write_text(json.dumps(content))
    return root


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
    ]:
        first, *others = content[key]
        path.write_text(json.dumps(content | {key: [first | change, *others]}))
        assert message in refusal(tmp_path, val_fraction=0.5)


def test_a_split_that_is_named_and_not_there_is_refused(tmp_path: Path) -> None:
    message = "data.train_split=nowhere: no .* has that name"
    for root in (pairs(tmp_path / "pairs"), coco(tmp_path / "coco")):
        with pytest.raises(UserError, match=message):
            opened(root, train_split="nowhere")


def test_settings_of_labels_are_those_of_the_defaults(tmp_path: Path) -> None:
    """A folder opened without settings, as the probes of a pretraining do."""
    data = open_labelled(LabelledDataSettings(), pairs(tmp_path), 1)
    assert data.classes == ("0", "1", "2")
