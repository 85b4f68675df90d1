"""A short sum of a data set by which a resumed run knows it again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable

_SIZES = 1000
"""Sizes of so many images at most: a million are not asked of a network's disk."""


def digest(names: Iterable[bytes], count: int, size: Callable[[int], int]) -> str:
    """Of all names, and of the sizes of a thousand images spread over the set.

    Args:
        names: names of the images, in the order of their numbers.
        count: how many there are.
        size: bytes of an image by its number.
    """
    found = hashlib.blake2b(digest_size=16)
    for name in names:
        found.update(name + b"\0")
    for number in range(0, count, max(1, count // _SIZES)):
        found.update(size(number).to_bytes(8, "little"))
    return found.hexdigest()


def file_size(path: str | bytes | os.PathLike[str]) -> int:
    """Bytes of a file; none for one that cannot be seen."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
