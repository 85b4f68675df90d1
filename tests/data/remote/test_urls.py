"""Names and the URLs at which a server has them."""

import os
from pathlib import Path

import pytest

from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.remote.urls import join
from tests.servers import web_server

NAMES = ["deep er/ü?#%.jpg", os.fsdecode(b"caf\xe9.jpg")]


def test_a_name_of_any_bytes_has_a_url() -> None:
    urls = [join("https://host/photos/", name) for name in NAMES]
    assert urls == [
        "https://host/photos/deep%20er/%C3%BC%3F%23%25.jpg",
        "https://host/photos/caf%E9.jpg",
    ]


@pytest.mark.slow
def test_a_web_server_gives_what_a_list_or_its_folders_name(tmp_path: Path) -> None:
    root = tmp_path / "served"
    (root / "photos" / "deep er").mkdir(parents=True)
    for name in NAMES:
        (root / "photos" / name).write_bytes(os.fsencode(name))
    (root / "list.txt").write_bytes(b"\n".join(os.fsencode(f"photos/{name}") for name in NAMES))
    with web_server(root) as url:
        for place in (f"@{url}/list.txt", f"{url}/photos"):
            images = list_images(place)
            assert {images.read(number) for number in range(len(images))} == set(
                map(os.fsencode, NAMES)
            )
