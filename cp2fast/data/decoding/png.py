"""The chunks of a PNG file (ISO/IEC 15948), read without decoding any."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"

GREY = 0
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels, or palette indices, by colour type; alpha is the last of 2 and of 4."""

_END = b"IEND"
_ANCILLARY = 0x20
"""Set in the first letter of the name of a chunk that is not needed for the pixels."""
_MOST_TEXT = 1 << 18
"""In bytes; an Exif block is smaller than 64 KiB, or twice that in hexadecimal."""
_PROFILE_IN_TEXT = b"Raw profile type exif\0"


class Chunk(NamedTuple):
    """A chunk's name, and the positions of it and its data in the file."""

    name: bytes
    begin: int
    data: int
    end: int


class Header(NamedTuple):
    """The content of IHDR."""

    height: int
    width: int
    bits: int
    """Bits of a channel, or of a palette index."""
    colour_type: int
    """One of ``CHANNELS``."""
    is_interlaced: bool


def read_header(encoded: bytes) -> Header | None:
    """The header of a PNG file; None if there is none."""
    if not encoded.startswith(SIGNATURE) or encoded[12:16] != b"IHDR" or len(encoded) < 33:
        return None
    width, height = int.from_bytes(encoded[16:20]), int.from_bytes(encoded[20:24])
    return Header(height, width, encoded[24], encoded[25], encoded[28] != 0)


def chunks(encoded: bytes) -> Iterator[Chunk]:
    """The complete chunks of a PNG file, in order."""
    begin = len(SIGNATURE)
    while begin + 12 <= len(encoded):
        end = begin + 12 + int.from_bytes(encoded[begin : begin + 4])
        name = encoded[begin + 4 : begin + 8]
        if end > len(encoded):
            return
        yield Chunk(name, begin, begin + 8, end)
        if name == _END:
            return
        begin = end


def exif_blocks(encoded: bytes) -> Iterator[bytes]:
    """The Exif blocks: eXIf chunks, then those that older tools stored as hexadecimal text.

    Chunks with a wrong checksum are ignored, as libpng does.
    """
    in_text = []
    for name, begin, data, end in chunks(encoded):
        if name == b"eXIf" and _checksum_holds(encoded, begin, end):
            yield encoded[data : end - 4]
        elif name in (b"tEXt", b"zTXt") and encoded.startswith(_PROFILE_IN_TEXT, data):
            in_text.append((name, encoded[data + len(_PROFILE_IN_TEXT) : end - 4]))
    for name, content in in_text:
        try:
            text = content
            if name == b"zTXt":
                text = zlib.decompressobj().decompress(content[1:], _MOST_TEXT)
            # an empty line, the type, the length, and lines of hexadecimal digits
            yield bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
        except (ValueError, zlib.error):
            continue


def without_metadata(encoded: bytes) -> bytes:
    """Remove the ancillary chunks: text, profiles, Exif, transparency, animation.

    The pixels remain, or the first frame of an animation. A chunk that is cut short is kept, so
    that the decoder reports it.
    """
    kept, position = [], 0
    for chunk in chunks(encoded):
        if chunk.name[0] & _ANCILLARY:
            kept.append(encoded[position : chunk.begin])
            position = chunk.end
    return b"".join([*kept, encoded[position:]]) if kept else encoded


def is_intact(encoded: bytes) -> bool:
    """Whether the checksums of the complete chunks that are needed for the pixels are right."""
    needed = (chunk for chunk in chunks(encoded) if not chunk.name[0] & _ANCILLARY)
    return all(_checksum_holds(encoded, chunk.begin, chunk.end) for chunk in needed)


def _checksum_holds(encoded: bytes, begin: int, end: int) -> bool:
    return zlib.crc32(encoded[begin + 4 : end - 4]) == int.from_bytes(encoded[end - 4 : end])
