"""A million file names in one buffer: each takes its length plus two bytes."""

from __future__ import annotations

import itertools
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

_AT_ONCE, _BLOCK = 4096, 64


@dataclass(frozen=True)
class Names:
    """File names by number, as bytes of the file system.

    Attributes:
        text: all names concatenated.
        lengths: length of each name, 16 bits.
        begins: start of every 64th name, 64 bits.
    """

    # Not numpy's arrays: between two decodings, a single number of one costs microseconds.
    text: bytearray
    lengths: array[int]
    begins: array[int]

    @staticmethod
    def of(names: Iterable[str | os.PathLike[str]]) -> Names:
        """Names from these strings or paths, in order."""
        text, lengths = bytearray(), array("H")
        encoded = map(os.fsencode, names)
        while some := list(itertools.islice(encoded, _AT_ONCE)):
            text += b"".join(some)
            lengths.extend(map(len, some))
        return _indexed(text, lengths)

    @staticmethod
    def joined(parts: Iterable[Names]) -> Names:
        """The names of all parts, concatenated."""
        text, lengths = bytearray(), array("H")
        for part in parts:
            text += part.text
            lengths += part.lengths
        return _indexed(text, lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise IndexError(number)
        block = number // _BLOCK
        begin = self.begins[block] + sum(self.lengths[block * _BLOCK : number])
        return bytes(self.text[begin : begin + self.lengths[number]])

    def __iter__(self) -> Iterator[bytes]:
        begin = 0
        for length in self.lengths:
            yield bytes(self.text[begin : begin + length])
            begin += length

    def first(self, count: int) -> Names:
        """The first ``count`` names."""
        lengths = self.lengths[:count]
        return _indexed(self.text[: sum(lengths)], lengths)


def _indexed(text: bytearray, lengths: array[int]) -> Names:
    sums = np.add.reduceat(np.array(lengths), range(0, len(lengths), _BLOCK), dtype=np.int64)
    return Names(text, lengths, array("q", (sums.cumsum() - sums).tobytes()))
