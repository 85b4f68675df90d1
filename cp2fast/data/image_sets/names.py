"""A million file names in one buffer: each takes its length plus two bytes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_AT_ONCE, _BLOCK = 4096, 64


@dataclass(frozen=True)
class Names:
    """File names by number, as bytes of the file system.

    Attributes:
        text: uint8, all names concatenated.
        lengths: uint16 ``[N]``, length of each name.
        begins: int64 ``[N / 64]``, start of every 64th name.
    """

    text: NDArray[np.uint8]
    lengths: NDArray[np.uint16]
    begins: NDArray[np.int64]

    @staticmethod
    def of(names: Iterable[str | os.PathLike[str]]) -> Names:
        """Names from these strings or paths, in order."""
        text, lengths = bytearray(), bytearray()
        encoded = map(os.fsencode, names)
        while some := list(itertools.islice(encoded, _AT_ONCE)):
            text += b"".join(some)
            lengths += np.fromiter(map(len, some), np.uint16, len(some)).tobytes()
        return _indexed(np.frombuffer(text, np.uint8), np.frombuffer(lengths, np.uint16))

    @staticmethod
    def joined(parts: Iterable[Names]) -> Names:
        """The names of all parts, concatenated."""
        parts = list(parts)
        text = np.concatenate([part.text for part in parts])
        return _indexed(text, np.concatenate([part.lengths for part in parts]))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise IndexError(number)
        block = number // _BLOCK
        begin = int(self.begins[block]) + int(self.lengths[block * _BLOCK : number].sum())
        return self.text[begin : begin + int(self.lengths[number])].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        begin = 0
        for length in self.lengths.tolist():
            yield self.text[begin : begin + length].tobytes()
            begin += length

    def first(self, count: int) -> Names:
        """The first ``count`` names."""
        lengths = self.lengths[:count]
        return _indexed(self.text[: int(lengths.sum())], lengths)


def _indexed(text: NDArray[np.uint8], lengths: NDArray[np.uint16]) -> Names:
    sums = np.add.reduceat(lengths, range(0, len(lengths), _BLOCK), dtype=np.int64)
    return Names(text, lengths, sums.cumsum() - sums)
