"""Metadata of images, whole and broken, written by hand into files of every format."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

from PIL import Image

ORIENTATION = 0x0112
SHORT = 3
Entry = tuple[int, int, int, bytes]
"""Tag, type, count, and the value, which lies elsewhere in the block if it has over four bytes."""


def orientation(value: int, order: str = "<") -> Entry:
    return (ORIENTATION, SHORT, 1, struct.pack(order + "H", value))


def tiff(entries: Sequence[Entry], order: str = "<", next_directory: int = 0) -> bytes:
    """A TIFF block of one directory."""
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    directory, elsewhere = struct.pack(order + "H", len(entries)), b""
    begin = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        field = value.ljust(4, b"\0")
        if len(value) > 4:
            field = struct.pack(order + "I", begin + len(elsewhere))
            elsewhere += value
        directory += struct.pack(order + "HHI", tag, kind, count) + field
    return header + directory + struct.pack(order + "I", next_directory) + elsewhere


def turned(value: int) -> bytes:
    """A valid block that says so."""
    return tiff([orientation(value)])


def xmp(value: int, extra: bytes = b"") -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/>'
        % value
        + extra
        + b"</rdf:RDF></x:xmpmeta>"
    )


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def exif_segment(block: bytes, identifier: bytes = b"Exif\0\0") -> bytes:
    return segment(0xE1, identifier + block)


def xmp_segment(packet: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)


def in_jpeg(jpeg: bytes, *segments: bytes) -> bytes:
    """With segments right after its signature."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def in_png(png: bytes, *chunks: bytes, before: bytes = b"IDAT") -> bytes:
    place = png.index(before) - 4
    return png[:place] + b"".join(chunks) + png[place:]


def in_webp(image: Image.Image, block: bytes) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, exif=block)
    return buffer.getvalue()
