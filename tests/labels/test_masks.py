"""What the values of masks mean: numbers, palettes and colours, and what is refused as neither."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.labels.dataset import read_example
from cp2fast.labels.survey import survey
from tests.data import metadata
from tests.labels.small_sets import (
    COUNT,
    NAMED,
    TABLE,
    all_labels,
    expect_scene,
    in_colours,
    labels_of,
    mask,
    opened,
    pairs,
    photo,
    refusal,
)


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


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_tiff_masks_of_few_bits_are_not_spread(bits: int, tmp_path: Path) -> None:
    highest = (1 << bits) - 1
    pairs(tmp_path, lambda labels: np.where(labels == 2, highest, 0).astype(np.uint8))
    for path in sorted((tmp_path / "masks").iterdir()):
        with Image.open(path) as image:
            values = np.array(image)
        path.unlink()
        path.with_suffix(".tif").write_bytes(grey_tiff(values, bits))
    data = opened(tmp_path)
    assert data.classes == ("0", str(highest))
    assert np.array_equal(all_labels(data)[0], labels_of(0) == 2)


def grey_tiff(values: np.ndarray, bits: int) -> bytes:
    """A grey TIFF of few bits, which Pillow does not write."""
    height, width = values.shape
    spread = (values[:, :, None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(spread.astype(np.uint8).reshape(height, -1), axis=1).tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 0), (278, height)]
    tags.append((279, len(rows)))
    begin = 8 + 2 + 12 * len(tags) + 4
    entries = [(tag, 4, 1, struct.pack("<I", value or begin)) for tag, value in tags]
    return metadata.tiff(entries) + rows


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_photo_and_its_mask_in_tiff_are_turned_alike(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    for number in range(COUNT):
        labels = labels_of(number)
        labels[:3, :5] = 2
        mask(tmp_path / f"masks/{number}.tif", labels, exif=exif)
        mask(tmp_path / f"images/{number}.tif", labels * 100, exif=exif)
    data = opened(tmp_path)
    for example in data.train:
        image, labels = read_example(example, data)
        assert (image[:, :, 0] == 100 * labels).all()


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


@pytest.mark.parametrize("names", ["classes.txt", "data.classes"])
def test_the_colours_of_data_classes_override_data_colours(names: str, tmp_path: Path) -> None:
    root, classes = pairs(tmp_path, in_colours), {"colours": TABLE.tolist()}
    if names == "data.classes":
        classes["names"] = list(NAMED)
    else:
        (root / "classes.txt").write_text("\n".join(NAMED))
    for colours in (None, [[9, 9, 9], [8, 8, 8], [7, 7, 7]]):
        data = opened(root, classes=classes, colours=colours)
        assert data.classes == tuple(NAMED)
        expect_scene(data)


@pytest.mark.parametrize("nearest", ["off", "on"])
@pytest.mark.parametrize("place", [0, 1])  # The sample has 0, 2, 5, ...
def test_255_of_a_palette_is_ignored_if_its_colour_is_not_named(
    place: int, nearest: str, tmp_path: Path
) -> None:
    palette = TABLE[[2, 0, 1]].ravel().tolist() + [1, 2, 3] * 253
    (tmp_path / "classes.csv").write_text("sky,0,0,0\nroad,128,64,128\nsea,0,130,180\n")
    indices = np.array([1, 2, 0], np.uint8)[labels_of(0)]

    def write(path: Path, values: np.ndarray) -> None:
        image = Image.fromarray(values)
        image.putpalette(palette)
        image.save(path)

    (tmp_path / "masks").mkdir()
    for number in range(60):
        photo(tmp_path / f"images/{number}.jpg", 0)
        write(tmp_path / f"masks/{number}.png", indices)
    example = opened(tmp_path).train[place]
    expected = labels_of(0)
    indices[0], expected[0] = 255, 255
    write(example.mask, indices)
    data = opened(tmp_path, nearest=nearest)
    assert "masks of colours" in data.said
    assert np.array_equal(read_example(example, data)[1], expected)
    assert not survey(data).warnings
    palette[-3:] = TABLE[1].tolist()
    write(example.mask, indices)
    expected[0] = 1
    assert np.array_equal(read_example(example, data)[1], expected)


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


@pytest.mark.parametrize("nearest", ["off", "on"])
def test_the_levels_of_grey_jpegs_are_no_classes(nearest: str, tmp_path: Path) -> None:
    for number in range(COUNT):
        photo(tmp_path / f"images/{number}.jpg", number)
        Image.new("RGB", (128, 96)).save(tmp_path / f"images/{number}.jpg")
        scene = np.kron(labels_of(0), np.full((8, 8), 100, np.uint8))
        mask(tmp_path / f"masks/{number}.jpg", scene, quality=60)
    message = refusal(tmp_path, nearest=nearest)
    assert "is a JPEG, whose values are approximate: name those" in message
    assert "data.nearest=on" in message
    named = {0: "sky", 100: "road", 200: "sea"}
    labels = all_labels(opened(tmp_path, nearest="on", classes=named))[0]
    assert np.array_equal(labels[4::8, 4::8], labels_of(0))


def test_a_grey_far_from_every_class_is_ignored(tmp_path: Path) -> None:
    """A mixture at an edge: its nearest class may be a third one."""
    pairs(tmp_path, lambda labels: np.array([0, 100, 190], np.uint8)[labels])
    data = opened(tmp_path, nearest="on", classes={0: "sky", 200: "sea"})
    assert np.array_equal(all_labels(data)[0], np.array([0, 255, 1])[labels_of(0)])


@pytest.mark.parametrize("names", [None, ["ground", "crack"]])
def test_a_rare_class_beside_0_and_255_is_a_class(names: object, tmp_path: Path) -> None:
    for number in range(60):  # more than the sample
        photo(tmp_path / f"images/{number}.jpg", 0)
        labels = np.array([0, 0, 255], np.uint8)[labels_of(0)]
        mask(tmp_path / f"masks/{number}.png", labels)
    second = opened(tmp_path).train[1].mask  # The sample has 0, 2, 5, ...
    mask(second, np.array([0, 1, 255], np.uint8)[labels_of(0)])
    data = opened(tmp_path, classes=names)
    assert data.classes == (("0", "1") if names is None else tuple(names))
    [labels] = [labels for labels in all_labels(data) if 1 in labels]
    assert np.array_equal(labels, np.array([0, 1, 255])[labels_of(0)])


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


@pytest.mark.parametrize("value", [-9999, 70_000])
def test_a_number_that_no_label_has_is_named(tmp_path: Path, value: int) -> None:
    root = pairs(tmp_path)
    labels = labels_of(0).astype(np.int32)
    labels[0, 0] = value
    (root / "masks/0.png").unlink()
    mask(root / "masks/0.tif", labels)
    assert f"0.tif holds the value {value}: labels have 16 bits" in refusal(root)
