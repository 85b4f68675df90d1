import io
import os
from pathlib import Path

import pytest
from PIL import Image

from cp2fast.data.image_sets.listing import list_images
from tests.data import image_files
from tests.data.packing.packs import do


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Ten photos in three shards, packed and so with their indexes."""
    (tmp_path / "photos").mkdir()
    for number in range(10):
        photo = image_files.photo(40 + number, 100 - number, seed=number)
        photo.save(tmp_path / "photos" / f"{number}.jpg")
    do(tmp_path / "photos", tmp_path / "shards", shard_size=4)
    return tmp_path / "shards"


def test_the_index_beside_a_shard_says_what_its_headers_do(shards: Path) -> None:
    indexed = list_images(shards)
    for index in shards.glob("*.index"):
        index.unlink()
    plain = list_images(shards)
    assert indexed.places.tolist() == plain.places.tolist()
    assert [*indexed.names] == [*plain.names]
    for number in range(len(plain)):
        with Image.open(io.BytesIO(plain.read(number))) as image:
            assert indexed.pixels[number, :2].tolist() == [image.height, image.width]


@pytest.mark.parametrize("damage", ["of another shard", "cut", "older"])
def test_an_index_that_does_not_belong_to_its_shard_is_passed_over(
    damage: str, shards: Path
) -> None:
    expected = list_images(shards).places.tolist()
    first, second, _ = sorted(shards.glob("*.index"))
    content = {"of another shard": second.read_bytes(), "cut": first.read_bytes()[:-9]}
    first.write_bytes(content.get(damage, first.read_bytes().replace(b"1", b"2")))
    if damage == "older":
        os.utime(first, (1, 1))
    assert list_images(shards).places.tolist() == expected
