"""The index of a .beton tells where its images are, and does not believe a damaged one."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.data.image_sets import beton
from cp2fast.data.image_sets.listing import list_images
from cp2fast.errors import UserError
from tests.data import betons


@pytest.fixture
def images():
    return betons.photos(20)


@pytest.fixture
def path(tmp_path: Path, images) -> Path:
    return betons.write_beton(tmp_path / "photos.beton", images)


def test_an_image_set_reads_the_stored_bytes(path: Path, images) -> None:
    found = list_images(path)
    assert (found.kind, len(found)) == ("beton", 20)
    assert [found.read(i) for i in range(20)] == [image.encoded for image in images]
    assert found.pixels[:, :2].tolist() == [[image.height, image.width] for image in images]
    assert found.name(3) == f"{path}/3.jpg"


def test_raw_pixels_are_read_as_an_image_file(path: Path, images) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (images[4].height, images[4].width, 3))
    raw = pixels.astype(np.uint8)
    grown = [*images[:4], images[4]._replace(encoded=raw.tobytes()), *images[5:]]
    path = betons.write_beton(path.with_name("raw.beton"), grown)
    betons.as_raw(path, 4, raw)
    found = list_images(path)
    assert found.name(4).endswith("/4.png")
    with Image.open(io.BytesIO(found.read(4))) as image:
        assert np.array_equal(np.array(image), raw)


def test_an_image_of_incomplete_pixels_is_empty() -> None:
    assert beton.encoded_image(bytes(17), 2, 3, beton.RAW) == b""


def test_a_file_that_is_cut_short_is_refused(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    for length in (0, 10, 500, 2000, len(whole) // 2, len(whole) - 24, len(whole) - 10):
        cut = tmp_path / f"{length}.beton"
        cut.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"is not complete: pack or fetch it again"):
            list_images(cut)


def test_a_file_whose_writer_was_killed_is_refused(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(16)  # Where the table lies; FFCV writes it last.
        file.write(bytes(8))
    with pytest.raises(UserError, match="is not complete"):
        list_images(path)


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0, b"\x03\x00", r"is not a .beton of FFCV's format 2 \(it says 3\)"),
        (0, b"\xff\xd8", "is not a .beton of FFCV's format 2"),
        (24, b"\x01", "has no image field"),
        (24, b"\xff", "has no image field"),
    ],
)
def test_what_is_no_beton_of_images_is_refused(
    path: Path, offset: int, data: bytes, message: str
) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    with pytest.raises(UserError, match=message):
        list_images(path)


def test_a_place_that_the_table_does_not_know_is_refused(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(betons.row(2) + 5)
        file.write((1 << 60).to_bytes(8, "little"))
    with pytest.raises(UserError, match="is not complete"):
        list_images(path)


def test_an_empty_beton_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images in"):
        list_images(betons.write_beton(tmp_path / "empty.beton", []))
