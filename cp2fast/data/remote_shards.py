"""Remote shards and ``.beton`` files: list their images before reading any.

use the index beside the shard, or one made earlier (kept in the disk cache)
else fetch the whole shard into the disk cache and read the headers there
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from cp2fast.data import remote, shard_index
from cp2fast.data.disk_cache import DiskCache
from cp2fast.data.image_set import ImageSet
from cp2fast.data.indexing import index_of
from cp2fast.data.remote import FIRST_PATIENCE, Remote, public
from cp2fast.data.shard_index import ShardIndex
from cp2fast.data.shards import members_of, photos_among
from cp2fast.errors import UserError

_AT_ONCE = 8


def list_remote_shards(
    shards: Sequence[Remote], disk: DiskCache, beside: Collection[str] | None = None
) -> ImageSet:
    """The images in these shards, ordered by shard, then position.

    Args:
        shards: the shards as listed.
        disk: cache to which shards without an index are fetched.
        beside: the names of all files in their folder; None if unknown.

    Raises:
        UserError: a shard is damaged or cannot be read, or none of them holds an image.
    """

    def listed(shard: Remote) -> ShardIndex:
        name = f"{shard.url.rpartition('/')[2]}{shard_index.SUFFIX}"
        might_be_there = beside is None or name in beside
        return (_read_index(shard) if might_be_there else None) or _kept_index(shard, disk)

    with ThreadPoolExecutor(_AT_ONCE, "cp2fast-index") as pool:
        indexes = list(pool.map(listed, shards))
    members = [
        member
        for shard, index in zip(shards, indexes, strict=True)
        for member in photos_among(list(members_of(shard.url, index)))
    ]
    if not members:
        raise UserError(
            f"no images in {public(shards[0].url)}: its members end in none of .jpg, .jpeg, .png, "
            ".webp"
        )
    images = ImageSet.of_members(members)
    by_url = {shard.url: shard for shard in shards}
    held = [by_url[url] for url in images.shards]
    return replace(
        images,
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


def _read_index(shard: Remote) -> ShardIndex | None:
    """Read the index beside a shard; none for a signed URL, which is valid for the shard only."""
    if "?" in shard.url:
        return None
    beside = remote.look_up(shard.url + shard_index.SUFFIX)
    if beside is None:
        return None
    return shard_index.decoded(remote.read(beside.url, 0, -1, FIRST_PATIENCE), shard.size)


def _kept_index(shard: Remote, disk: DiskCache) -> ShardIndex:
    """The index kept in the disk cache; it is made now if there is none."""
    path = disk.folder / "indexes" / disk.path(shard).name
    try:
        index = shard_index.decoded(path.read_bytes(), shard.size)
    except OSError:
        index = None
    if index is not None:
        return index
    with disk.open(shard) as file:
        made = index_of(file, public(shard.url))
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(made.encoded())
    aside.replace(path)
    return made
