"""JPEG 2000: 8 bits with Pillow, more bits or more bands with imagecodecs.

Pillow shifts 12 bits up to 16 and drops the lower bits of colours, so its values are not the
file's.
Source of the header: ITU-T T.800, annex A.5.1.
"""

from __future__ import annotations

import struct

import numpy as np

from cp2fast.data.decoding.decoders import pillow
from cp2fast.data.decoding.formats import WIDE_JPEG2000
from cp2fast.data.decoding.raster import BadImage, Raster, check_volume, reading, type_limits

SIGNATURES = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_CODESTREAM = b"\xff\x4f\xff\x51"
_SIGNED = 0x80


def read(encoded: bytes, max_pixels: int) -> Raster:
    """All bands as stored."""
    height, width, bands, bits, is_signed = _header(encoded)
    check_volume(height, width, bands * -(-bits // 8), max_pixels)
    if bits <= 8 and bands <= 4 and not is_signed:
        return pillow.read(encoded, max_pixels)
    imagecodecs = WIDE_JPEG2000.module("imagecodecs")
    with reading("a JPEG 2000 image that cannot be read"):
        values = np.atleast_3d(imagecodecs.jpeg2k_decode(encoded))
    colours = {1: 1, 2: 1, 3: 3, 4: 3}.get(values.shape[2])
    return Raster(values, type_limits(values.dtype, bits), colours, has_bands=True)


def size(encoded: bytes) -> tuple[int, int]:
    """Height and width."""
    return _header(encoded)[:2]


def _header(encoded: bytes) -> tuple[int, int, int, int, bool]:
    """Height, width, bands, bits of the deepest band, and whether any band is signed."""
    begin = encoded.find(_CODESTREAM)  # anywhere in the file
    try:
        right, bottom, left, top = struct.unpack_from(">4I", encoded, begin + 8)
        (bands,) = struct.unpack_from(">H", encoded, begin + 40)
        depths = [encoded[begin + 42 + 3 * band] for band in range(bands)]
    except (struct.error, IndexError):
        depths = []
    if begin < 0 or not depths:
        raise BadImage("a JPEG 2000 image with a broken header")
    bits = max(depth & ~_SIGNED for depth in depths) + 1
    return bottom - top, right - left, bands, bits, any(depth & _SIGNED for depth in depths)
