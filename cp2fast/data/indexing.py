"""Make the index of a local shard from its headers and the headers of its images."""

from __future__ import annotations

import os
from typing import IO

from cp2fast.data import shard_index
from cp2fast.data.decode import BadImage, image_size
from cp2fast.data.shard_index import ShardIndex
from cp2fast.data.shards import damaged, is_photo
from cp2fast.data.tar import Entry, TarError

_HEAD = 256 << 10
"""Bytes that contain the header of nearly every image."""
_ANY_SIZE = 1 << 62


def index_of(file: IO[bytes], name: str) -> ShardIndex:
    """The positions of the files in a shard, and the sizes of its images.

    Args:
        file: the shard.
        name: name of the shard in messages.

    Raises:
        OSError: it cannot be read.
        UserError: it is damaged.
    """
    descriptor = file.fileno()

    def look(entry: Entry) -> tuple[int, int]:
        if not is_photo(entry.name):
            return 0, 0
        head = os.pread(descriptor, min(entry.size, _HEAD), entry.offset)
        try:
            return image_size(head, _ANY_SIZE)
        except BadImage:
            return 0, 0

    try:
        return shard_index.made(descriptor, look)
    except TarError as error:
        raise damaged(name, os.pread(descriptor, 1 << 10, 0), error) from error
