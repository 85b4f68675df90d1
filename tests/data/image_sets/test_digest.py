import os
from pathlib import Path

import pytest

from cp2fast.data.image_sets.listing import list_images
from tests.pretrain.runs import write_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 5)


def digest_of(root: Path) -> str:
    return list_images(root).digest(root)


def test_a_folder_that_has_moved_is_known_again(photos: Path) -> None:
    before = digest_of(photos)
    assert digest_of(photos.rename(photos.with_name("elsewhere"))) == before


@pytest.mark.parametrize("change", ["rename", "grow"])
def test_another_name_or_size_is_another_data_set(photos: Path, change: str) -> None:
    before, photo = digest_of(photos), photos / "003.jpg"
    if change == "rename":
        photo.rename(photos / "003b.jpg")
    else:
        photo.write_bytes(photo.read_bytes() + b"\0")
    assert digest_of(photos) != before


def test_times_and_places_of_files_do_not_matter(photos: Path) -> None:
    before = digest_of(photos)
    os.utime(photos / "001.jpg", (1, 1))
    assert digest_of(photos) == before
