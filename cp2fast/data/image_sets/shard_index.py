"""The index beside a shard, ``SHARD.index``: positions of its files and sizes of its images.

It is one JSON object: ``format``, ``length`` of the shard in bytes, and the lists ``name``,
``offset``, ``size``, ``height`` and ``width`` with one entry per file; the height is 0 for files
that are not images. ``pack`` writes the index; if there is none, it is made when the shard is first
read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cp2fast.data.image_sets.tar import BLOCK, is_header_of

SUFFIX = ".index"
_FORMAT = 1
_LISTS = ("name", "offset", "size", "height", "width")


@dataclass(frozen=True)
class ShardIndex:
    """The index of one shard; see the module."""

    length: int
    name: Sequence[str]
    offset: Sequence[int]
    size: Sequence[int]
    height: Sequence[int]
    width: Sequence[int]

    @staticmethod
    def of(length: int, rows: Iterable[tuple[str, int, int, int, int]]) -> ShardIndex:
        """The index of a shard of ``length`` bytes; a row is name, offset, size, height, width."""
        columns: Any = list(zip(*rows, strict=True)) or [()] * len(_LISTS)
        return ShardIndex(length, *map(list, columns))

    def encoded(self) -> bytes:
        """The content of the index file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, separators=(",", ":")).encode()


def is_index(name: str) -> bool:
    """Whether a file of this name is the index of a shard."""
    return name.lower().endswith(f".tar{SUFFIX}")


def decoded(content: bytes, length: int) -> ShardIndex | None:
    """Parse an index file; None if it is invalid or of a shard with another length."""
    try:
        read = json.loads(content)
        if read.pop("format") != _FORMAT or read["length"] != length:
            return None
        index = ShardIndex(**read)
        count = len(index.name)
        numbers = (index.offset, index.size, index.height, index.width)
        if any(len(one) != count or not all(type(n) is int for n in one) for one in numbers):
            return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    ends = (begin + size for begin, size in zip(index.offset, index.size, strict=True))
    is_inside = all(begin >= BLOCK for begin in index.offset) and max(ends, default=0) <= length
    return index if is_inside else None


def fits(descriptor: int, offsets: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether files of these sizes begin at these offsets in the shard open as ``descriptor``."""
    return all(
        is_header_of(os.pread(descriptor, BLOCK, offset - BLOCK), size)
        for offset, size in zip(offsets, sizes, strict=True)
    )
