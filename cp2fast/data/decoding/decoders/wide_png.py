"""PNG with 16 bits per channel at full depth; Pillow drops the lower 8 bits of colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding import png
from cp2fast.data.decoding.png_rows import inflated, unfilter
from cp2fast.data.decoding.raster import BadImage, Raster, check_volume, type_limits

_COLOUR_TYPES = (0, 2, 4, 6)
"""All but palettes, whose indices have at most 8 bits."""
_WHOLE = ((0, 0, 1, 1),)
_INTERLACED = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)),
    (1, 0, 2, 1),
)
"""Of each pass: the first row and column, and the distances of rows and columns."""


def is_wide_png(encoded: bytes) -> bool:
    """Whether a file is a PNG with 16 bits per channel, compressed and filtered as all are."""
    header = png.read_header(encoded)
    if header is None or any(encoded[26:28]):
        return False
    return header.bits == 16 and header.colour_type in _COLOUR_TYPES


def read(encoded: bytes, max_pixels: int) -> Raster:
    """Grey or colour in 16 bits; alpha is the last band and not part of the picture.

    Raises:
        BadImage: damaged, or too large.
    """
    header = png.read_header(encoded)
    if header is None:
        raise BadImage("a PNG image with a broken header")
    channels = png.CHANNELS[header.colour_type]
    check_volume(header.height, header.width, 2 * channels, max_pixels)
    if not png.is_intact(encoded):
        raise BadImage("a damaged PNG image (wrong checksum)")
    values = np.empty((header.height, header.width, channels), np.uint16)
    passes = _INTERLACED if header.is_interlaced else _WHOLE
    parts = [values[top::down, left::right] for top, left, down, right in passes]
    parts = [part for part in parts if part.size]
    sizes = [len(part) * _line(part) for part in parts]
    content = np.frombuffer(next(inflated(encoded, sum(sizes)), b""), np.uint8)
    if len(content) < sum(sizes):
        raise BadImage("a PNG image that ends before its last row")
    for part, lines in zip(parts, np.split(content, np.cumsum(sizes)[:-1]), strict=True):
        _fill(part, lines.reshape(len(part), -1).copy())
    return Raster(values, type_limits(values.dtype), 1 if channels < 3 else 3)


def _line(part: NDArray[np.uint16]) -> int:
    """Bytes of a row in the file, with its filter byte."""
    return 1 + 2 * int(part[0].size)


def _fill(part: NDArray[np.uint16], lines: NDArray[np.uint8]) -> None:
    """Put the filtered rows of a file into the pixels ``[H, W, C]`` that they are of."""
    unfilter(lines, np.zeros(lines.shape[1] - 1, np.uint8), 2 * part.shape[2])
    part[:] = lines[:, 1:].view(">u2").reshape(part.shape)
