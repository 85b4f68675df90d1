"""How far remote objects are fetched ahead of the batches that need them."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.sources.read_ahead import read_ahead

SIZE = 1000


def tar(number: int) -> bytes:
    """A shard of one image."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        member = tarfile.TarInfo(f"{number:04}.jpg")
        member.size = SIZE
        opened.addfile(member, io.BytesIO(bytes(SIZE)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("suffix", "count", "gib", "of_one", "taken"),
    [
        ("jpg", 40, 10 * SIZE / (1 << 30), False, 6),  # more than half of the cache
        ("tar", 40, 1, False, 4),  # two windows of two shards
        ("jpg", 2100, 1, False, 2048),
        ("jpg", 5000, 1, True, 4096),
    ],
    ids=["bytes", "shards", "objects", "batches"],
)
def test_no_more_batches_are_taken_before_the_first_is_used_than_each_bound_allows(
    suffix: str, count: int, gib: float, of_one: bool, taken: int, tmp_path: Path
) -> None:
    memory, folder = fsspec.filesystem("memory"), f"{suffix} {taken}"
    for number in range(1 if of_one else count):
        content = tar(number) if suffix == "tar" else bytes(SIZE)
        memory.pipe_file(f"/{folder}/{number:04}.{suffix}", content)
    disk = DiskCache(tmp_path / "cache", gib=gib)
    images = list_images(f"memory://{folder}", disk=disk)
    numbers: list[int] = []

    def plan() -> Iterator[NDArray[np.int64]]:
        for number in range(count):
            numbers.append(number)
            yield np.array([0 if of_one else number])

    batches = read_ahead(images, disk, plan(), window=2)
    assert next(batches).tolist() == [0]
    assert len(numbers) == taken
    batches.close()
