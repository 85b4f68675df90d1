"""What the bytes of a JPEG file say before it is decoded (ITU-T T.81, annex B)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIGNATURE = b"\xff\xd8\xff"

_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}


class Header(NamedTuple):
    """The frame header, and where the first scan begins."""

    height: int
    width: int
    components: int
    precision: int
    """Bits a component."""
    process: int
    """The frame's marker: 0xC0 is baseline, 0xC2 progressive."""
    scan: int
    """Position of the first scan's entropy-coded data."""
    scan_components: int

    @property
    def is_common(self) -> bool:
        """Whether every decoder reads it alike: 8-bit Huffman-coded grey, YCbCr or RGB."""
        return (
            self.process in (_BASELINE, _EXTENDED, _PROGRESSIVE)
            and self.precision == 8
            and self.components in (1, 3)
        )


def read_header(encoded: bytes) -> Header | None:
    """The header of a JPEG file; None if it is broken or ends before the first scan."""
    position, frame = 2, None
    while position + 4 <= len(encoded):
        if encoded[position] != 0xFF:
            return None
        marker = encoded[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        length = int.from_bytes(encoded[position + 2 : position + 4])
        body = encoded[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == _START_OF_SCAN:
            if frame is None or not body or position >= len(encoded):
                return None
            return Header(*frame, scan=position, scan_components=body[0])
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            if len(body) < 6:
                return None
            height, width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
            if not height or not width:
                return None
            frame = (height, width, body[5], body[0], marker)
    return None


def is_intact(encoded: bytes, header: Header) -> bool:
    """Whether the scans look whole, so that every decoder makes the same of them.

    A sequential image of one scan must run from there to the end-of-image marker with no other
    marker between, which finds a truncated file and most damaged ones. Of any other image only
    the end is looked for.
    """
    if header.process == _PROGRESSIVE or header.scan_components != header.components:
        return encoded.rfind(b"\xff\xd9", header.scan) >= 0
    scan = np.frombuffer(encoded, np.uint8, offset=header.scan)
    after_ff = scan[np.flatnonzero(scan[:-1] == 0xFF) + 1]
    # A stuffed zero is data; restart markers (0xD0 to 0xD7) and fill bytes belong to the scan.
    markers = after_ff[(after_ff != 0) & (after_ff & 0xF8 != 0xD0) & (after_ff != 0xFF)]
    return len(markers) > 0 and int(markers[0]) == _END_OF_IMAGE
