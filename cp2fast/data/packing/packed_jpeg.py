"""Convert one image file to the JPEG that a packed data set stores."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from cp2fast.config import Bands, RangeSetting
from cp2fast.data.decoding import jpeg
from cp2fast.data.decoding.decode import BadImage, decode_image
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.decoding.orientation import UPRIGHT, jpeg_orientation
from cp2fast.data.decoding.shrink import fitted

_LONGEST_SIDE = 65_500
"""In pixels, by libjpeg."""


@dataclass(frozen=True)
class JpegSettings:
    """How to convert an image file to JPEG; most are as in ``DataSettings``."""

    max_side: int | None
    quality: int
    """JPEG quality of images that are encoded again."""
    keep_bytes: bool
    """Whether to keep the bytes of a JPEG that needs no change."""
    max_pixels: int
    range: RangeSetting = "auto"
    bands: Bands | None = None


class PackedJpeg(NamedTuple):
    """An upright RGB JPEG."""

    encoded: bytes
    height: int
    width: int


def pack_jpeg(encoded: bytes, settings: JpegSettings) -> PackedJpeg:
    """Decode an image of any format, reduce it if it is too large, and encode it.

    Kept bytes are decoded too, to make sure that the result can be read.

    Raises:
        BadImage: it cannot be read, or is too long for a JPEG.
    """
    levels = Levels.of(settings.range, settings.bands)
    image = Image.fromarray(decode_image(encoded, settings.max_pixels, levels=levels).numpy())
    height, width = fitted(image.height, image.width, settings.max_side)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    elif settings.keep_bytes and _is_upright_rgb(encoded):
        return PackedJpeg(encoded, height, width)
    if max(width, height) > _LONGEST_SIDE:
        raise BadImage(f"JPEG holds at most {_LONGEST_SIDE:,} pixels a side: set --max-side")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=settings.quality)
    return PackedJpeg(buffer.getvalue(), height, width)


def _is_upright_rgb(encoded: bytes) -> bool:
    """Whether every decoder, even one that ignores EXIF, gives the same RGB for these bytes."""
    header = jpeg.read_header(encoded) if encoded.startswith(jpeg.SIGNATURE) else None
    if header is None or not header.is_common or header.components != 3:
        return False
    return jpeg_orientation(encoded, header) == UPRIGHT
