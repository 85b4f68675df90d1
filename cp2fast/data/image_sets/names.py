"""A million file names in one buffer: each takes its length plus eight bytes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """File names by number, as bytes of the file system.

    Attributes:
        text: all names concatenated.
        ends: where each ends, 64 bits; not numpy's array, a number of which costs microseconds.
    """

    text: bytearray
    ends: array[int]

    @staticmethod
    def of(names: Iterable[str | bytes | os.PathLike[str]]) -> Names:
        """Names from these strings, bytes or paths, in order."""
        text, ends = bytearray(), array("q")
        for name in names:
            text += os.fsencode(name)
            ends.append(len(text))
        return Names(text, ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return bytes(self.text[self.ends[number - 1] if number else 0 : self.ends[number]])

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(len(self)))
