"""Cut a PNG file into small PNG files of successive rows, so that a huge one needs little memory.

Rows are read (``png_rows.py``), then stored again without filter and without compression, under the
header and the palette of the file: any decoder makes pixels of them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from cp2fast.data.decoding import png
from cp2fast.data.decoding.png_rows import inflated, unfilter
from cp2fast.data.decoding.raster import BadImage


def can_cut(encoded: bytes) -> bool:
    """Whether a file is a PNG whose rows are stored from top to bottom, not interlaced."""
    header = png.read_header(encoded)
    return header is not None and header.colour_type in png.CHANNELS and not header.is_interlaced


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
    for piece in inflated(encoded, rows * size):
        lines = np.frombuffer(piece, np.uint8)
        lines = lines[: len(lines) // size * size].reshape(-1, size)[: header.height - top]
        if not len(lines):
            break
        lines = lines.copy()
        unfilter(lines, before, max(1, bits // 8))
        before, top = lines[-1, 1:].copy(), top + len(lines)
        yield _png(encoded, palette, len(lines), lines.tobytes())
    if top < header.height:
        raise BadImage(f"a PNG image that ends after {top} of {header.height} rows")


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
