"""PPM and PGM with more than 8 bits, at full depth; Pillow reads the others.

Source: ppm(5) and pgm(5) of Netpbm.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from cp2fast.data.decoding.raster import BadImage, Raster, check_volume

_HEADER = re.compile(rb"P([56])" + 3 * rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})" + rb"\s")


class Header(NamedTuple):
    """The header of a PPM or PGM."""

    bands: int
    width: int
    height: int
    highest: int
    """The value for white."""
    end: int


def read_header(encoded: bytes) -> Header | None:
    """The header of a binary PPM or PGM; None for any other file."""
    found = _HEADER.match(encoded[:4096])
    if found is None:
        return None
    kind, width, height, highest = map(int, found.groups())
    return Header(1 if kind == 5 else 3, width, height, highest, found.end())


def is_wide(encoded: bytes) -> bool:
    """Whether a file is a binary PPM or PGM with two bytes per value."""
    header = read_header(encoded)
    return header is not None and 255 < header.highest < 65536


def read(encoded: bytes, max_pixels: int) -> Raster:
    """The values as stored, from 0 to the file's maximum."""
    header = read_header(encoded)
    if header is None or not header.width or not header.height:
        raise BadImage("a PPM image with a broken header")
    check_volume(header.height, header.width, 2 * header.bands, max_pixels)
    count = header.height * header.width * header.bands
    if len(encoded) - header.end < 2 * count:
        raise BadImage("a PPM image that ends before its last pixel")
    values = np.frombuffer(encoded, ">u2", count, header.end).astype(np.uint16)
    shape = (header.height, header.width, header.bands)
    return Raster(values.reshape(shape), (0.0, float(header.highest)), header.bands)
