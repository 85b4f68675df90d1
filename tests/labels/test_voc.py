"""Data sets in VOC layout: which files are read, and what is refused."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cp2fast.config import LabelledDataSettings
from cp2fast.data.decoding.orientation import orient
from cp2fast.data.scenes import generate_scenes, voc_palette
from cp2fast.errors import UserError
from cp2fast.labels.coding import Coding
from cp2fast.labels.dataset import LabelledData, read_example
from cp2fast.labels.open import open_labelled
from cp2fast.labels.survey import survey
from cp2fast.labels.voc import VOC_CLASSES
from tests.data import image_files, metadata

PLAIN = Coding("values", {0: 0, 1: 1, 2: 2, 255: 255})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images of different sizes; d is for validation."""
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, name in enumerate("abcd"):
        height, width = 20 + number, 31
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg")
        labels = np.full((height, width), number, np.uint8)
        labels[0] = 255
        write_mask(root / "SegmentationClass" / f"{name}.png", labels)
    write_split(root, "train", "a b c")
    write_split(root, "val", "d")
    return root


def write_mask(path: Path, labels: np.ndarray, *, palette: bool = True) -> None:
    mask = Image.fromarray(labels)
    if palette:
        mask.putpalette(voc_palette())
    mask.save(path)


def write_split(root: Path, split: str, names: str) -> None:
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    path.write_text("\n".join(names.split()) + "\n")


def opened(root: Path, **settings: object) -> LabelledData:
    return open_labelled(LabelledDataSettings.model_validate(settings), root)


def refusal(root: Path, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        survey(opened(root, **settings))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_splits_are_read_in_their_order(root: Path) -> None:
    write_split(root, "train", "c a b")
    data = opened(root)
    assert [example.image.stem for example in data.train] == ["c", "a", "b"]
    assert [example.mask.stem for example in data.val] == ["d"]
    assert data.train_split == "train"


def test_train_aug_is_trained_on_where_it_is_there(root: Path) -> None:
    write_split(root, "train_aug", "a b")
    assert len(opened(root).train) == 2
    assert len(opened(root, train_split="train").train) == 3


def test_a_mask_of_the_augmented_set_goes_before_the_other(root: Path) -> None:
    (root / "SegmentationClassAug").mkdir()
    write_mask(root / "SegmentationClassAug" / "b.png", np.full((21, 31), 7, np.uint8))
    data = opened(root)
    assert [read_example(e, data)[1][5, 5].item() for e in data.train] == [0, 7, 2]


def test_palette_and_grey_masks_hold_the_same_labels(root: Path) -> None:
    data = opened(root)
    before = [read_example(example, data)[1] for example in data.train]
    for example, labels in zip(data.train, before, strict=True):
        write_mask(example.mask, labels.numpy(), palette=False)
    after = [read_example(example, data)[1] for example in data.train]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert before[2].unique().tolist() == [2, 255]


def test_image_and_mask_are_of_the_files_pixels(root: Path) -> None:
    data = opened(root)
    image, _ = read_example(data.train[0], data)
    with Image.open(data.train[0].image) as file:
        pixels = np.asarray(file)
    assert np.abs(image.numpy().astype(int) - pixels).max() <= 3
    assert image.shape == (20, 31, 3)


def test_the_class_names_are_the_settings_or_the_files_or_vocs(root: Path) -> None:
    assert opened(root).classes == VOC_CLASSES
    assert (VOC_CLASSES[0], VOC_CLASSES[15], len(VOC_CLASSES)) == ("background", "person", 21)
    (root / "classes.txt").write_text("sky\n\nstreet light\nroad\ncar\n")
    assert opened(root).classes == ("sky", "street light", "road", "car")
    assert opened(root, classes=["x", "y"]).classes == ("x", "y")


def test_the_demo_scenes_are_such_a_data_set(tmp_path: Path) -> None:
    generate_scenes(tmp_path / "scenes", 10, seed=1)
    data = opened(tmp_path / "scenes")
    survey(data)
    assert (len(data.train), len(data.val), len(data.classes)) == (8, 2, 6)


def test_a_missing_split_is_named_with_those_that_are_there(root: Path) -> None:
    message = refusal(root, val_split="test")
    assert "test.txt" in message
    assert "data.val_split" in message
    assert "train, val" in message


def test_an_empty_split_is_refused(root: Path) -> None:
    write_split(root, "train", "")
    assert "train.txt names no image" in refusal(root)


def test_the_first_missing_file_is_named_and_the_others_are_counted(root: Path) -> None:
    (root / "SegmentationClass" / "a.png").unlink()
    (root / "SegmentationClass" / "c.png").unlink()
    message = refusal(root)
    assert "SegmentationClass/a.png" in message
    assert "1 more" in message
    (root / "JPEGImages" / "a.jpg").unlink()
    assert "JPEGImages/a.jpg" in refusal(root)


def test_a_mask_of_another_size_than_its_image_is_refused(root: Path) -> None:
    write_mask(root / "SegmentationClass" / "b.png", np.zeros((31, 21), np.uint8))
    message = refusal(root)
    assert re.search(r"b\.jpg is 31 x 21 .* b\.png is 21 x 31|b\.jpg is 31 x 21.*21 x 31", message)
    data = opened(root)
    with pytest.raises(UserError, match="one size"):
        read_example(data.train[1], data)


def test_a_label_beyond_the_classes_is_refused_naming_file_and_label(root: Path) -> None:
    message = refusal(root, classes=["x", "y", "z"])
    assert "d.png holds label 3" in message
    assert "data.unknown=ignore" in message


def test_masks_that_cannot_be_used_are_counted(root: Path) -> None:
    message = refusal(root, classes=["x", "y"])
    assert "c.png holds label 2" in message
    assert "(and 1 more like it)" in message


def test_unknown_labels_can_be_ignored(root: Path) -> None:
    data = opened(root, classes=["x", "y", "z"], unknown="ignore")
    survey(data)
    assert read_example(data.val[0], data)[1].unique().tolist() == [255]


def test_grey_masks_saved_as_rgb_hold_the_same_labels(root: Path) -> None:
    before = [read_example(example, opened(root))[1] for example in opened(root).train]
    for path in (root / "SegmentationClass").iterdir():
        with Image.open(path) as mask:
            Image.fromarray(np.repeat(np.asarray(mask)[..., None], 3, axis=-1)).save(path)
    data = opened(root)
    assert "masks of numbers saved as RGB" in data.said
    after = [read_example(example, data)[1] for example in data.train]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_masks_in_colour_are_refused(root: Path) -> None:
    masks = sorted((root / "SegmentationClass").iterdir())
    for path, height in zip(masks, range(20, 24), strict=True):
        Image.new("RGB", (31, height), (128, 0, 0)).save(path)
    assert "hold colours (#800000 (2,666 pixels)), and nothing says which class" in refusal(root)
    write_mask(masks[1], np.zeros((21, 31), np.uint8))
    assert "a.png holds colours (RGB) and" in refusal(root)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken", b"not an image"])
def test_a_mask_that_cannot_be_read_is_refused(root: Path, content: bytes) -> None:
    (root / "SegmentationClass" / "a.png").write_bytes(content)
    assert "a.png cannot be read as PNG" in refusal(root)


def test_an_image_that_cannot_be_read_is_refused(root: Path) -> None:
    whole = (root / "JPEGImages" / "a.jpg").read_bytes()
    (root / "JPEGImages" / "a.jpg").write_bytes(b"no image")
    assert "a.jpg cannot be read" in refusal(root)
    (root / "JPEGImages" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    data = opened(root)
    with pytest.raises(UserError, match=r"a\.jpg cannot be read: "):
        read_example(data.train[0], data)


def test_class_names_must_be_many_enough_and_different(root: Path) -> None:
    assert "twice" in refusal(root, classes=["x", "y", "x", "z"])
    assert "1 classes" in refusal(root, classes=["x"])


def turned_photo(value: int) -> bytes:
    photo = image_files.encode(image_files.photo(31, 20), "JPEG")
    return metadata.in_jpeg(photo, metadata.exif_segment(metadata.turned(value)))


def grey_png(labels: np.ndarray, bits: int) -> bytes:
    """A grey PNG of few bits, or of 16, which Pillow does not write as such."""
    height, width = labels.shape
    if bits == 16:
        rows = labels.astype(">u2").view(np.uint8)
    else:
        spread = (labels[:, :, None] >> np.arange(bits)[::-1]) & 1
        rows = np.packbits(spread.astype(np.uint8).reshape(height, -1), axis=1)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(metadata.chunk(*part) for part in parts)


@pytest.mark.parametrize("value", range(1, 9))
def test_a_photo_and_its_mask_are_turned_alike(root: Path, value: int) -> None:
    labels = np.arange(20 * 31, dtype=np.uint8).reshape(20, 31) % 3
    mask = image_files.encode(Image.fromarray(labels), "PNG")
    chunk = metadata.chunk(b"eXIf", metadata.turned(value))
    (root / "JPEGImages" / "a.jpg").write_bytes(turned_photo(value))
    (root / "SegmentationClass" / "a.png").write_bytes(metadata.in_png(mask, chunk))
    data = opened(root)
    survey(data)
    image, read = read_example(data.train[0], data)
    assert np.array_equal(read, orient(torch.from_numpy(labels), value))
    assert image.shape[:2] == read.shape


@pytest.mark.parametrize("upright", [True, False])
def test_a_mask_without_metadata_is_of_the_upright_photo(root: Path, upright: bool) -> None:
    labels = np.zeros((31, 20) if upright else (20, 31), np.uint8)
    (root / "JPEGImages" / "a.jpg").write_bytes(turned_photo(6))
    Image.fromarray(labels).save(root / "SegmentationClass" / "a.png")
    if upright:
        data = opened(root)
        survey(data)
        assert read_example(data.train[0], data)[0].shape == (31, 20, 3)
    else:
        assert "20 x 31 pixels, but its mask" in refusal(root)


ODD_BLOCKS = {
    "four bytes": b"II*\0",
    "text": metadata.tiff([(0x0112, 2, 2, b"6\0")]),
    "byte": metadata.tiff([(0x0112, 1, 1, b"\6")]),
    "float": metadata.tiff([(0x0112, 11, 1, struct.pack("<f", 6.0))]),
    "ratio": metadata.tiff([(0x0112, 5, 1, struct.pack("<II", 6, 1))]),
    "doubled": b"Exif\0\0" + metadata.turned(6),
    "9": metadata.turned(9),
    "65535": metadata.turned(65535),
    "garbage": b"\x99" * 60,
}


@pytest.mark.parametrize("block", ODD_BLOCKS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_the_check_and_the_decoder_agree_on_odd_metadata(root: Path, block: str, suffix: str):
    photo, content = image_files.photo(31, 20), ODD_BLOCKS[block]
    encoded = {
        "jpg": lambda: metadata.in_jpeg(
            image_files.encode(photo, "JPEG"), metadata.exif_segment(content)
        ),
        "png": lambda: metadata.in_png(
            image_files.encode(photo, "PNG"), metadata.chunk(b"eXIf", content)
        ),
        "webp": lambda: metadata.in_webp(photo, content),
    }[suffix]()
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "JPEGImages" / f"a.{suffix}").write_bytes(encoded)
    accepted = 0
    for size in ((20, 31), (31, 20)):
        Image.fromarray(np.zeros(size, np.uint8)).save(root / "SegmentationClass" / "a.png")
        data = opened(root)
        try:
            survey(data)
        except UserError:
            continue
        accepted += 1
        assert read_example(data.train[0], data)[0].shape[:2] == size
    assert accepted == 1


@pytest.mark.parametrize("bits", [1, 2, 4, 16])
def test_labels_of_few_bits_are_not_spread(root: Path, bits: int) -> None:
    labels = np.arange(20 * 31).reshape(20, 31) % min(3, 1 << bits)
    (root / "SegmentationClass" / "a.png").write_bytes(grey_png(labels, bits))
    assert np.array_equal(PLAIN.read(root / "SegmentationClass" / "a.png").labels, labels)


def test_sixteen_bits_that_hold_more_than_labels_are_refused(root: Path) -> None:
    path = root / "SegmentationClass" / "a.png"
    path.write_bytes(grey_png(np.full((20, 31), 514), 16))
    assert "16-bit mask with the value 514: save it as an 8-bit PNG" in refusal(root)


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "JPEG"), ("BMP", "BMP"), ("GIF", "GIF")])
def test_a_mask_that_is_no_png_is_named_as_what_it_is(root: Path, kind: str, name: str) -> None:
    path = root / "SegmentationClass" / "a.png"
    path.write_bytes(image_files.encode(Image.fromarray(np.zeros((20, 31), np.uint8)), kind))
    with pytest.raises(UserError, match=f"it is a {name} image: save it as a palette or grey PNG"):
        PLAIN.read(path)


def test_a_mask_with_long_text_is_read(root: Path) -> None:
    path = root / "SegmentationClass" / "a.png"
    text = metadata.chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * (2 << 20)))
    path.write_bytes(metadata.in_png(path.read_bytes(), text))
    survey(opened(root))
