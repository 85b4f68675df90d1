"""HEIC and other HEIF with pillow-heif, which rotates the pixels as the container specifies.

Exif in a HEIF file may repeat the orientation; it is ignored (ISO/IEC 23008-12: the container's
transformations apply), so photos are not rotated twice. 10 and 12 bits are reduced to 8, since
these are photos.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cp2fast.data.decoding.formats import HEIF
from cp2fast.data.decoding.kinds import kind_of
from cp2fast.data.decoding.orientation import UPRIGHT
from cp2fast.data.decoding.raster import Raster, check_size, picture, reading


def read(encoded: bytes, max_pixels: int) -> Raster:
    """The primary image, already upright.

    Raises:
        BadImage: damaged, too large, or pillow-heif is missing.
    """
    image = _opened(encoded)
    width, height = image.size
    check_size(height, width, max_pixels)
    with reading(f"{kind_of(encoded)} that cannot be read"):
        return picture(np.array(image.to_pillow().convert("RGB")), UPRIGHT)


def size(encoded: bytes) -> tuple[int, int]:
    """Height and width of the upright image."""
    width, height = _opened(encoded).size
    return int(height), int(width)


def _opened(encoded: bytes) -> Any:
    pillow_heif = HEIF.module("pillow_heif")
    with reading(f"{kind_of(encoded)} that cannot be read"):
        return pillow_heif.open_heif(encoded)
