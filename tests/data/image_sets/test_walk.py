"""A folder is trusted little: what is strange in it, and a great many names."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cp2fast.data.decoding.raster import BadImage
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.image_sets.names import Names

LONGEST = 255
"""Bytes of a name on the usual file systems."""


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode(errors="surrogateescape"))


def listed(root: Path) -> list[str]:
    images = list_images(root)
    return [images.name(number).removeprefix(f"{root}/") for number in range(len(images))]


def test_what_is_no_photo_is_not_listed_and_never_waited_for(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "folder.jpg/b.jpg", "._a.jpg", "Thumbs.db", ".DS_Store", "desktop.ini")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link to pipe.jpg").symlink_to(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(tmp_path, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/socket.jpg")
        os.close(folder)
        images = list_images(tmp_path)
    assert listed(tmp_path) == ["a.jpg", "folder.jpg/b.jpg", "link to pipe.jpg"]
    assert dict(images.skipped)["no plain file"] == 2
    with pytest.raises(BadImage, match="not a plain file"):
        images.read(2)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    make(tmp_path, "a/b/c.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    (tmp_path / "a" / "b" / "a").symlink_to("../b")
    assert listed(tmp_path) == ["a/b/c.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        "two\nlines.jpg",
        "tab\t.jpg",
        f"{'x' * (LONGEST - 4)}.jpg",
        f"{'é' * ((LONGEST - 4) // 2)}.jpg",
        os.fsdecode(b"caf\xe9.jpg"),
        " .jpg",
        "a.tar.jpg",
        "-rf.jpg",
    ],
)
def test_strange_names_are_listed_and_read(name: str, tmp_path: Path) -> None:
    make(tmp_path, name, "z.jpg")
    images = list_images(tmp_path)
    assert name in listed(tmp_path)
    assert images.read(listed(tmp_path).index(name)) == os.fsencode(name)


def test_a_path_as_long_as_the_system_has_them(tmp_path: Path) -> None:
    deep = "/".join(["d" * 200] * 15)
    make(tmp_path, f"{deep}/a.jpg")
    assert list_images(tmp_path).read(0) == f"{deep}/a.jpg".encode()


def test_names_are_what_was_put_in() -> None:
    names = [f"{'n' * (number % 300)}{number}.jpg" for number in range(1000)]
    stored = Names.of(names)
    assert [os.fsdecode(name) for name in stored] == names
    assert [os.fsdecode(stored[number]) for number in range(1000)] == names
    assert len(Names.of([])) == 0
    with pytest.raises(IndexError):
        stored[1000]


MEASURE = """
import sys, tracemalloc
from pathlib import Path
from cp2fast.data.image_sets.listing import list_images
tracemalloc.start()
images = list_images(Path(sys.argv[1]))
_, most = tracemalloc.get_traced_memory()
print(len(images), most)
"""


@pytest.mark.slow
def test_a_name_takes_less_than_200_bytes_even_while_it_is_listed(tmp_path: Path) -> None:
    """Fifty thousand links to one file, which are as long as they come to a data set."""
    count = 50_000
    (tmp_path / "one.jpg").write_bytes(b"")
    for number in range(count - 1):
        os.link(tmp_path / "one.jpg", tmp_path / f"IMG_2024_06_{number:012d}.jpg")
    words = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    listed_count, most = map(int, done.stdout.split())
    assert listed_count == count
    assert most < 200 * count
