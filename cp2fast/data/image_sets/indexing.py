"""Make the index of a shard from its headers and the headers of its images.

a local shard   read anywhere
a remote one    by range requests that hop from header to header, if its images are large;
if they are small, fetching the whole shard is faster
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from cp2fast.data.decoding.decode import BadImage, image_size
from cp2fast.data.image_sets.shard_index import ShardIndex
from cp2fast.data.image_sets.shards import damaged, is_photo
from cp2fast.data.image_sets.tar import Entry, Read, TarError, entries
from cp2fast.data.remote import objects
from cp2fast.data.remote.objects import FIRST_PATIENCE, Remote
from cp2fast.data.remote.urls import public

_HEAD = 256 << 10
"""Bytes that contain the header of nearly every image."""
_HOP = 16 << 10
"""Bytes per range request: a header of the tar and usually that of the image behind it."""
_LOOKED_AT = 8
"""Number of files whose mean size decides whether range requests are worth it."""
_ANY_SIZE = 1 << 62


def index_of(file: IO[bytes], name: str) -> ShardIndex:
    """The positions of the files in a local shard, and the sizes of its images.

    Raises:
        OSError: it cannot be read.
        UserError: the shard, called ``name``, is damaged.
    """
    descriptor = file.fileno()

    def read(position: int, size: int) -> bytes:
        return os.pread(descriptor, size, position)

    length = os.fstat(descriptor).st_size
    try:
        return _made(read, length, entries(read, length), _HEAD)
    except TarError as error:
        raise damaged(name, read(0, 1 << 10), error) from error


def index_of_remote(shard: Remote, worth: int) -> ShardIndex | None:
    """The index of a remote shard, read by range requests; None if fetching it whole is better.

    That is where the mean size of the files is below ``worth`` bytes. It only has the sizes of
    images whose header is close to the tar's.

    Raises:
        UserError: it is damaged, or cannot be read.
    """
    hops = _Hops(shard)
    try:
        found = _unless_small(entries(hops.read, shard.size), worth)
        return _made(hops.read_known, shard.size, found, _HOP)
    except _SmallError:
        return None
    except TarError as error:
        raise damaged(public(shard.url), hops.read(0, 1 << 10), error) from error


class _Hops:
    """Reads parts of an object, a few KiB at a time; those of the last request are kept."""

    def __init__(self, item: Remote) -> None:
        self._item, self._begin, self._kept = item, 0, b""

    def read(self, position: int, size: int) -> bytes:
        """These bytes, fewer at the end of the object."""
        end = min(position + size, self._item.size)
        if not self._begin <= position <= end <= self._begin + len(self._kept):
            ahead = min(max(end, position + _HOP), self._item.size)
            self._kept = b""
            if ahead > position:
                self._kept = objects.read(self._item.url, position, ahead, FIRST_PATIENCE)
            self._begin = position
        return self._kept[position - self._begin : end - self._begin]

    def read_known(self, position: int, size: int) -> bytes:
        """As many of these bytes as the last request brought."""
        begin = position - self._begin
        return self._kept[begin : begin + size] if begin >= 0 else b""


class _SmallError(Exception):
    """The files are too small for hops."""


def _unless_small(found: Iterator[Entry], worth: int) -> Iterator[Entry]:
    for number, entry in enumerate(found, 1):
        if number == _LOOKED_AT and entry.offset < worth * number:
            raise _SmallError
        yield entry


def _made(read: Read, length: int, found: Iterator[Entry], head: int) -> ShardIndex:
    """The index of these files; ``read`` reads the headers of the images, ``head`` bytes each."""
    rows = []
    for name, offset, size in found:
        height = width = 0
        if is_photo(name):
            with suppress(BadImage):
                height, width = image_size(read(offset, min(size, head)), _ANY_SIZE)
        rows.append((name, offset, size, height, width))
    return ShardIndex.of(length, rows)
