"""Cut a PNG file into small PNG files of successive rows, so that a huge one needs little memory.

Rows are inflated and unfiltered (ISO/IEC 15948, 9.2), then stored again without filter and without
compression, under the header and the palette of the file: any decoder makes pixels of them.
"""

from __future__ import annotations

import struct
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


def can_cut(encoded: bytes) -> bool:
    """Whether a file is a PNG whose rows are stored from top to bottom, not interlaced."""
    header = png.read_header(encoded)
    return header is not None and header.colour_type in png.CHANNELS and encoded[28] == 0


def bands(encoded: bytes, rows: int) -> Iterator[bytes]:
    """PNG files of ``rows`` rows each, the last perhaps of fewer; without metadata.

    Raises:
        BadImage: the file, which ``can_cut`` accepted, is damaged or ends early.
    """
    header = png.read_header(encoded)
    if header is None:
        raise ValueError("encoded is no PNG")
    bits = header.bits * png.CHANNELS[header.colour_type]
    size = 1 + (header.width * bits + 7) // 8
    palette = _palette(encoded)
    before, top = np.zeros(size - 1, np.uint8), 0
    try:
        for piece in _inflated(encoded, rows * size):
            lines = np.frombuffer(piece, np.uint8)
            lines = lines[: len(lines) // size * size].reshape(-1, size)[: header.height - top]
            if not len(lines):
                break
            lines = lines.copy()
            if not _unfilter()(lines, before, max(1, bits // 8)):
                raise BadImage("a damaged PNG image (unknown filter)")
            before, top = lines[-1, 1:].copy(), top + len(lines)
            yield _png(encoded, palette, len(lines), lines.tobytes())
    except zlib.error as error:
        raise BadImage(f"a damaged PNG image ({error})") from error
    if top < header.height:
        raise BadImage(f"a PNG image that ends after {top} of {header.height} rows")


def _inflated(encoded: bytes, size: int) -> Iterator[bytes]:
    """The content of all IDAT chunks, inflated, in pieces of ``size`` bytes."""
    inflate, piece = zlib.decompressobj(), bytearray()
    for chunk in png.chunks(encoded):
        if chunk.name != b"IDAT":
            continue
        for begin in range(chunk.data, chunk.end - 4, _INPUT):
            data = encoded[begin : min(begin + _INPUT, chunk.end - 4)]
            while data:
                piece += inflate.decompress(data, size - len(piece))
                data = inflate.unconsumed_tail
                if len(piece) == size:
                    yield bytes(piece)
                    piece.clear()
    piece += inflate.flush()
    for begin in range(0, len(piece), size):
        yield bytes(piece[begin : begin + size])


def _png(encoded: bytes, palette: bytes, height: int, lines: bytes) -> bytes:
    """A PNG file of unfiltered lines, with the header of another."""
    described = bytearray(encoded[16:29])
    described[4:8] = struct.pack(">I", height)
    header, data = _chunk(b"IHDR", bytes(described)), _chunk(b"IDAT", zlib.compress(lines, 0))
    return b"".join([png.SIGNATURE, header, palette, data, _chunk(b"IEND", b"")])


def _palette(encoded: bytes) -> bytes:
    """The whole chunk of the palette; empty without one."""
    places = (c for c in png.chunks(encoded) if c.name in (b"PLTE", b"IDAT"))
    first = next(places, None)
    if first is None or first.name == b"IDAT":
        return b""
    return encoded[first.begin : first.end]


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


@cache
def _unfilter() -> Any:
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
