"""The rows of a PNG file (ISO/IEC 15948, 9 and 10): inflated, unfiltered.

libpng is not used for these, because torchvision's ends the process on a damaged file, and Pillow's
decoder drops the lower bits of 16.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding import png
from cp2fast.data.decoding.raster import BadImage

_INPUT = 1 << 20
"""Bytes given to zlib at once; it copies those that it does not consume."""


def inflated(encoded: bytes, size: int) -> Iterator[bytes]:
    """The content of all IDAT chunks, inflated, in pieces of ``size`` bytes.

    Raises:
        BadImage: it is damaged.
    """
    inflate, piece = zlib.decompressobj(), bytearray()
    for chunk in png.chunks(encoded):
        if chunk.name != b"IDAT":
            continue
        for begin in range(chunk.data, chunk.end - 4, _INPUT):
            data = encoded[begin : min(begin + _INPUT, chunk.end - 4)]
            while data:
                try:
                    piece += inflate.decompress(data, size - len(piece))
                except zlib.error as error:
                    raise BadImage(f"a damaged PNG image ({error})") from error
                data = inflate.unconsumed_tail
                if len(piece) == size:
                    yield bytes(piece)
                    piece.clear()
    piece += inflate.flush()
    for begin in range(0, len(piece), size):
        yield bytes(piece[begin : begin + size])


def unfilter(lines: NDArray[np.uint8], before: NDArray[np.uint8], step: int) -> None:
    """Invert the filters in place; the filter bytes become 0.

    Args:
        lines: ``[rows, 1 + bytes]``, each a filter byte and the bytes of a row.
        before: the bytes of the row above, without filter byte; zeros for the first row.
        step: bytes of a pixel, at least 1.

    Raises:
        BadImage: there is no such filter.
    """
    if not _compiled()(lines, before, step):
        raise BadImage("a damaged PNG image (unknown filter)")


@cache
def _compiled() -> Any:
    """The compiled inverse of PNG's filters; numba is imported only where it is needed."""
    import numba

    def unfilter(lines: NDArray[np.uint8], before: NDArray[np.uint8], step: int) -> bool:
        """Unfilter lines in place: filter byte, then bytes of pixels ``step`` bytes apart."""
        for line in lines:
            kind, line[0] = line[0], 0
            if kind > 4:
                return False
            for place in range(len(before)):
                left = int(line[1 + place - step]) if place >= step else 0
                above = int(before[place])
                if kind == 0:
                    guess = 0
                elif kind == 1:
                    guess = left
                elif kind == 2:
                    guess = above
                elif kind == 3:
                    guess = (left + above) >> 1
                else:
                    corner = int(before[place - step]) if place >= step else 0
                    to_left, to_above = abs(above - corner), abs(left - corner)
                    to_corner = abs(left + above - 2 * corner)
                    guess = corner
                    if to_left <= to_above and to_left <= to_corner:
                        guess = left
                    elif to_above <= to_corner:
                        guess = above
                line[1 + place] = (int(line[1 + place]) + guess) & 255
            before = line[1:]
        return True

    return numba.njit(nogil=True)(unfilter)
