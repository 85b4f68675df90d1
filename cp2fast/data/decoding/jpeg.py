"""The header of a JPEG file, read before decoding (ITU-T T.81, annex B)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

SIGNATURE = b"\xff\xd8\xff"

_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}
_APP0, _EXIF, _ADOBE, _LAST_APP, _COMMENT = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE

_EXIF_IDENTIFIER = b"Exif\0"
"""A sixth byte follows, zero according to the standard."""

_NEEDED_TO_DECODE = {_APP0: (b"JFIF\0", 14), _ADOBE: (b"Adobe", 12)}
"""Segments that determine the colours: identifier, and the minimum length that libjpeg accepts."""


class Header(NamedTuple):
    """The frame header, the metadata, and the start of the first scan."""

    height: int
    """As stored, before any rotation."""
    width: int
    components: int
    precision: int
    """Bits per component."""
    process: int
    """The frame's marker: 0xC0 for baseline, 0xC2 for progressive."""
    scan: int
    """Offset of the first scan's entropy-coded data."""
    scan_components: int
    metadata: tuple[tuple[int, int], ...]
    """Start and end of every part that does not affect the pixels, in order."""

    @property
    def is_common(self) -> bool:
        """Whether every decoder gives the same result: 8-bit Huffman-coded grey, YCbCr or RGB."""
        return (
            self.process in (_BASELINE, _EXTENDED, _PROGRESSIVE)
            and self.precision == 8
            and self.components in (1, 3)
        )


def read_header(encoded: bytes) -> Header | None:
    """The header of a JPEG file; None if it is broken or ends before the first scan."""
    frame, metadata, previous = None, list[tuple[int, int]](), 2
    for marker, begin, end in _segments(encoded):
        if begin > previous:
            metadata.append((previous, begin))
        previous = end
        if marker == _START_OF_SCAN:
            if frame is None or end - begin < 5 or end >= len(encoded):
                return None
            return Header(*frame, end, encoded[begin + 4], tuple(metadata))
        if _APP0 <= marker <= _LAST_APP or marker == _COMMENT:
            needed, least = _NEEDED_TO_DECODE.get(marker, (b"", 1 << 16))
            if end - begin - 4 < least or not encoded.startswith(needed, begin + 4):
                metadata.append((begin, end))
        elif 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            if end - begin < 10 or end > len(encoded):
                return None
            precision, height, width, components = struct.unpack_from(">BHHB", encoded, begin + 4)
            if not height or not width:
                return None
            frame = (height, width, components, precision, marker)
        elif marker in (_START_OF_IMAGE, _END_OF_IMAGE):
            return None
    return None


def _segments(encoded: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment; like libjpeg, skips bytes between segments."""
    position, length = 2, len(encoded)
    while True:
        begin = position = encoded.find(b"\xff", position)
        if position < 0 or position + 4 > length:
            return
        marker = encoded[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker == 0:  # junk
            position += 2
        else:
            position += 2
            if marker not in _WITHOUT_LENGTH:
                # The length includes its own two bytes, even if the value is smaller.
                position += max(2, encoded[position] << 8 | encoded[position + 1])
            yield marker, begin, position
            if marker == _START_OF_SCAN:
                return


def exif_blocks(encoded: bytes, header: Header) -> Iterator[bytes]:
    """The content of each Exif segment before the first scan, without the identifier, in order."""
    for begin, end in header.metadata:
        if encoded[begin + 1] == _EXIF and encoded.startswith(_EXIF_IDENTIFIER, begin + 4):
            yield encoded[begin + 10 : end]


def without_metadata(encoded: bytes, header: Header) -> bytes:
    """Remove everything that does not affect the pixels, so that no decoder fails on it.

    This removes Exif, XMP, profiles, thumbnails, comments, other application segments, those that
    are too short to be used, and junk between segments. ``header.scan`` refers to the whole file.
    """
    kept, position, whole = [], 0, memoryview(encoded)
    for begin, end in header.metadata:
        kept.append(whole[position:begin])
        position = end
    return b"".join([*kept, whole[position:]]) if kept else encoded


def is_intact(encoded: bytes, header: Header) -> bool:
    """Whether the scans look complete, so that every decoder gives the same result.

    In a sequential image with one scan, no other marker may come between the start of the scan and
    the end-of-image marker; this finds truncated files and most damaged ones. For any other image,
    only the end is checked.
    """
    if header.process == _PROGRESSIVE or header.scan_components != header.components:
        return encoded.rfind(b"\xff\xd9", header.scan) >= 0
    scan = np.frombuffer(encoded, np.uint8, offset=header.scan)
    after_ff = scan[np.flatnonzero(scan[:-1] == 0xFF) + 1]
    # A stuffed zero is data; restart markers (0xD0 to 0xD7) and fill bytes belong to the scan.
    markers = after_ff[(after_ff != 0) & (after_ff & 0xF8 != 0xD0) & (after_ff != 0xFF)]
    return len(markers) > 0 and int(markers[0]) == _END_OF_IMAGE
