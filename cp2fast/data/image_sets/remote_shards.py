"""Remote shards and ``.beton`` files: list their images before reading any.

use the index beside the shard, or one made earlier (kept in the disk cache)
else read the shard's headers: by range requests if its images are large (``indexing.py``),
     else on the disk, where the whole shard is fetched and the first epoch will find it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cp2fast.data.image_sets import shard_index
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.indexing import index_of, index_of_remote
from cp2fast.data.image_sets.shard_index import ShardIndex
from cp2fast.data.image_sets.shards import no_members, photos_of
from cp2fast.data.progress_line import ProgressLine
from cp2fast.data.remote import objects
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.remote.objects import Remote
from cp2fast.data.remote.urls import public
from cp2fast.run_folder import atomic_write

_AT_ONCE = 16
_WORTH_A_HOP = 256 << 10
"""Mean file size in bytes above which requesting the headers is faster than fetching the shard, at
some 700 requests a second and less than 1.5 Gbit/s."""
_WORTH_IF_LOST = 32 << 10
"""The same if the disk cache has no room for the shards."""


def list_remote_shards(
    shards: Sequence[Remote], disk: DiskCache, beside: Collection[str] | None = None
) -> ImageSet:
    """The images in these shards, ordered by shard, then position.

    ``disk`` keeps shards without an index, and the indexes made of them; ``beside`` has the names
    of all files in their folder, if known.

    Raises:
        UserError: a shard is damaged or cannot be read, or none of them holds an image.
    """
    all_fit = sum(shard.size for shard in shards) <= disk.budget
    worth = _WORTH_A_HOP if all_fit else _WORTH_IF_LOST
    progress = ProgressLine(f"listing the shards of {_folder(shards)}", len(shards))

    def listed(shard: Remote) -> ShardIndex:
        index = _read_index(shard, beside) or _kept_index(shard, disk) or _make(shard, disk, worth)
        progress.advance()
        return index

    with ThreadPoolExecutor(_AT_ONCE, "cp2fast-index") as pool:
        indexes = list(pool.map(listed, shards))
    left_out = Counter[str]()
    members = [
        member
        for shard, index in zip(shards, indexes, strict=True)
        for member in photos_of(shard.url, index, left_out)
    ]
    if not members:
        where = public(shards[0].url) if len(shards) == 1 else _folder(shards)
        raise no_members(where, left_out)
    images = ImageSet.of_members(members)
    by_url = {shard.url: shard for shard in shards}
    held = [by_url[url] for url in images.shards]
    return replace(
        images,
        skipped=left_out,
        stored=np.array([(shard.size, shard.version) for shard in held], np.int64),
        disk=disk,
    )


def list_remote_beton(item: Remote, disk: DiskCache) -> ImageSet:
    """The images of a remote ``.beton``, which is fetched to the disk cache completely.

    Raises:
        UserError: it is not a complete ``.beton``, or cannot be read.
    """
    disk.fetch(item)
    stored = np.array([(item.size, item.version)], np.int64)
    images = ImageSet.of_beton(disk.path(item))
    return replace(images, shards=(item.url,), stored=stored, disk=disk)


def _folder(shards: Sequence[Remote]) -> str:
    return public(shards[0].url).rpartition("/")[0]


def _read_index(shard: Remote, beside: Collection[str] | None) -> ShardIndex | None:
    """Read the index beside a shard; none for a signed URL, which is valid for the shard only."""
    name = f"{shard.url.rpartition('/')[2]}{shard_index.SUFFIX}"
    if "?" in shard.url or (beside is not None and name not in beside):
        return None
    content = objects.read_if_there(shard.url + shard_index.SUFFIX)
    return None if content is None else shard_index.decoded(content, shard.size)


def _kept_index(shard: Remote, disk: DiskCache) -> ShardIndex | None:
    """The index that was made earlier."""
    try:
        return shard_index.decoded(_path(shard, disk).read_bytes(), shard.size)
    except OSError:
        return None


def _make(shard: Remote, disk: DiskCache, worth: int) -> ShardIndex:
    """Make the index, and keep it."""
    made = None if disk.holds(shard) or shard.size < 0 else index_of_remote(shard, worth)
    if made is not None:
        disk.check_unchanged(shard)
    else:
        with disk.open(shard) as opened:
            made = index_of(opened, public(shard.url))
    path = _path(shard, disk)
    with suppress(OSError):  # It is made again next time.
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(made.encoded())
    return made


def _path(shard: Remote, disk: DiskCache) -> Path:
    return disk.folder / "indexes" / disk.path(shard).name
