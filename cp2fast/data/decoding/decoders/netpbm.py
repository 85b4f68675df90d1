"""PPM and PGM with more than 8 bits, at full depth; Pillow reads the others.

Source: ppm(5) and pgm(5) of Netpbm.
"""

from __future__ import annotations

import re

import numpy as np

from cp2fast.data.decoding.raster import BadImage, Raster, check_volume

_HEADER = re.compile(rb"P([56])" + 3 * rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})" + rb"\s")


def is_wide(encoded: bytes) -> bool:
    """Whether a file is a binary PPM or PGM with two bytes per value."""
    found = _HEADER.match(encoded[:4096])
    return found is not None and 255 < int(found[4]) < 65536


def read(encoded: bytes, max_pixels: int) -> Raster:
    """The values as stored, from 0 to the file's maximum."""
    found = _HEADER.match(encoded[:4096])
    kind, width, height, highest = map(int, found.groups()) if found else (0, 0, 0, 0)
    if found is None or not width or not height:
        raise BadImage("a PPM image with a broken header")
    bands = 1 if kind == 5 else 3
    check_volume(height, width, 2 * bands, max_pixels)
    count = height * width * bands
    if len(encoded) - found.end() < 2 * count:
        raise BadImage("a PPM image that ends before its last pixel")
    values = np.frombuffer(encoded, ">u2", count, found.end()).astype(np.uint16)
    return Raster(values.reshape(height, width, bands), (0.0, float(highest)), bands)
