"""Sizes of remote images by name and version, kept in the disk cache: a server is asked once.

    DIR/sizes    records of 16 bytes: a hash of the object, height and width of its pixels

Records are only appended, under a lock, and an incomplete one at the end is cut off.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.remote.disk_cache import DiskCache, key_of
from cp2fast.data.remote.objects import Remote

_RECORD = np.dtype([("object", "<u8"), ("height", "<u4"), ("width", "<u4")])


class KnownSizes:
    """The sizes that were found here before; any number of processes may add some."""

    def __init__(self, disk: DiskCache) -> None:
        """Read them; there are none if they cannot be read."""
        self._path = disk.folder / "sizes"
        records = _read(self._path)
        order = np.argsort(records["object"], kind="stable")
        self._records = records[order]

    def get(self, item: Remote) -> tuple[int, int] | None:
        """Height and width; None if unknown."""
        number = _number(item)
        place = int(np.searchsorted(self._records["object"], number))
        if place == len(self._records) or self._records["object"][place] != number:
            return None
        _, height, width = self._records[place].tolist()
        return height, width

    def add(self, found: Mapping[Remote, tuple[int, int]]) -> None:
        """Keep more sizes for the next time; without effect if the folder cannot be written."""
        rows = [(_number(item), height, width) for item, (height, width) in found.items()]
        if not rows:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                length = os.fstat(file.fileno()).st_size
                file.truncate(length - length % _RECORD.itemsize)
                file.write(np.array(rows, _RECORD).tobytes())


def _number(item: Remote) -> int:
    return int(key_of(item)[:16], 16)


def _read(path: Path) -> NDArray[np.void]:
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    return np.frombuffer(content[: len(content) // _RECORD.itemsize * _RECORD.itemsize], _RECORD)
