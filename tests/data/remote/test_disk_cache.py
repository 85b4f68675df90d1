"""The cache of remote objects on the disk: how it is kept to its size, and without a folder."""

import contextlib
import os
import pwd
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.remote.disk_cache import DiskCache, default_folder
from cp2fast.data.remote.objects import Remote
from cp2fast.data.sources.read_ahead import fetched
from cp2fast.errors import UserError
from tests import unprivileged

COUNT = 6


@pytest.fixture
def objects() -> dict[str, bytes]:
    memory = fsspec.filesystem("memory")
    contents = {f"{number}.jpg": bytes([number]) * 1000 for number in range(COUNT)}
    for name, content in contents.items():
        memory.pipe_file(f"/disk cache/{name}", content)
    return contents


def items() -> list[Remote]:
    return [Remote(f"memory://disk cache/{number}.jpg", 1000, 0) for number in range(COUNT)]


def bytes_in(disk: DiskCache) -> int:
    kept = (path for path in (disk.folder / "objects").rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in kept)


def test_the_least_recently_used_go_when_the_cache_is_full(
    objects: dict[str, bytes], tmp_path: Path
) -> None:
    disk = DiskCache(tmp_path / "cache", gib=2400 / (1 << 30))
    for seconds, item in enumerate(items()[:2]):
        disk.fetch(item, verify=False)
        os.utime(disk.path(item), (seconds, seconds))
    for item in (items()[0], items()[2]):
        disk.fetch(item, verify=False)
    assert [disk.holds(item) for item in items()[:3]] == [True, False, True]
    assert bytes_in(disk) == 2000


def test_none_is_forgotten_of_those_that_many_threads_fetch_at_once(tmp_path: Path) -> None:
    """Whether it is about to be created, is being renamed, or fails."""
    size, names = 1000, [f"/at once/{number}" for number in range(300)]
    memory = fsspec.filesystem("memory")
    for name in names[::2]:
        memory.pipe_file(name, bytes(size))
    disk = DiskCache(tmp_path / "cache", gib=10.5 * size / (1 << 30))

    def fetch(name: str) -> None:
        with contextlib.suppress(UserError):  # Every second one is missing.
            disk.fetch(Remote(f"memory:/{name}", size, 0), verify=False)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(fetch, names))
    assert int((disk.folder / "bytes").read_text()) == bytes_in(disk)
    assert 0 < bytes_in(disk) <= 10 * size


def test_a_run_goes_on_while_its_cache_is_deleted(
    objects: dict[str, bytes], tmp_path: Path
) -> None:
    disk = DiskCache(tmp_path / "cache")
    images = list_images("memory://disk cache", disk=disk)
    read = []
    for number in fetched(images, range(COUNT)):
        if number % 2:
            shutil.rmtree(disk.folder, ignore_errors=True)
        read.append(images.read(number))
    assert read == list(objects.values())


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_what_cannot_be_a_folder_is_named_with_the_setting(
    place: str, objects: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    disk = DiskCache(tmp_path / place)
    with pytest.raises(
        UserError, match=rf"cache .*{place} cannot be written .*data.disk_cache=DIR"
    ):
        disk.fetch(items()[0], verify=False)


def test_a_user_without_a_home_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a number."""

    def unknown(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"1")
    assert len(list_images(tmp_path / "photos")) == 1
    assert default_folder() == tmp_path / f"cp2fast-{os.getuid()}"


READ = """
import sys
from pathlib import Path
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.remote.objects import Remote
from cp2fast.errors import UserError
disk = DiskCache(Path(sys.argv[1]))
for number in range(2):
    try:
        item = Remote(f"memory://disk cache/{number}.jpg", 1000, 0)
        disk.fetch(item)
        print(len(disk.read(item, 0, -1)))
    except UserError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_cache_that_may_only_be_read_gives_what_it_holds(
    objects: dict[str, bytes], tmp_path: Path
) -> None:
    disk = DiskCache(tmp_path / "cache")
    disk.fetch(items()[0], verify=False)
    for folder, _, _ in os.walk(disk.folder):
        Path(folder).chmod(0o555)
    done = unprivileged.run("-c", READ, disk.folder)
    for folder, _, _ in os.walk(disk.folder):
        Path(folder).chmod(0o755)
    held, refused = done.stdout.splitlines()
    assert held == "1000"
    assert "cannot be written (Permission denied)" in refused


def test_a_shard_of_unknown_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not say how long it is: copy it to this machine"):
        DiskCache(tmp_path).open(Remote("https://host/s.tar", -1, 0))


def test_a_damaged_count_is_made_anew(objects: dict[str, bytes], tmp_path: Path) -> None:
    """As a machine that crashes leaves a file: with zeros in it."""
    disk = DiskCache(tmp_path / "cache", gib=1)
    for item in items()[:2]:
        disk.fetch(item, verify=False)
    (disk.folder / "bytes").write_bytes(bytes(32))
    disk.fetch(items()[2], verify=False)
    assert int((disk.folder / "bytes").read_text()) == 3000
