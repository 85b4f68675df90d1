"""A short hash of a data set, by which a resumed run recognises it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable

_SIZES = 1000
"""The most image sizes to query: a million queries are too many for a network disk."""


def digest(names: Iterable[bytes], count: int, size: Callable[[int], int]) -> str:
    """The hash of all ``count`` names, and of the sizes of up to a thousand images among them."""
    found = hashlib.blake2b(digest_size=16)
    for name in names:
        found.update(name + b"\0")
    for number in range(0, count, max(1, count // _SIZES)):
        found.update(size(number).to_bytes(8, "little"))
    return found.hexdigest()


def file_size(path: str | bytes | os.PathLike[str]) -> int:
    """Bytes of a file; 0 if it cannot be accessed."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
