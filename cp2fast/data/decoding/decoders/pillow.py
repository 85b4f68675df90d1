"""Formats decoded with Pillow: PNG, WebP, GIF, BMP, AVIF, PPM, JPEG 2000 and uncommon JPEG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from cp2fast.data.decoding import png
from cp2fast.data.decoding.kinds import kind_of
from cp2fast.data.decoding.orientation import of_avif, orientation_of
from cp2fast.data.decoding.orientation import upright_size as turned_size
from cp2fast.data.decoding.raster import BadImage, Raster, check_size, one_line, picture

# The limit is data.max_pixels; Pillow has lower limits of its own for warnings and errors.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "PPM", "JPEG2000")


def read(encoded: bytes, max_pixels: int) -> Raster:
    """The first frame as an 8-bit picture, without alpha (the colours beneath are shown)."""
    with opened(encoded, max_pixels) as image:
        orientation = of_avif(image) if image.format == "AVIF" else None
        image.load()
        if "transparency" in image.info:
            image = image.convert("RGBA")  # Pillow warns of converting it directly to RGB.
        return picture(np.array(image.convert("RGB")), orientation)


def upright_size(encoded: bytes, max_pixels: int) -> tuple[int, int]:
    """Height and width of the result of ``read`` once it is upright."""
    with opened(encoded, max_pixels) as image:
        orientation = of_avif(image) if image.format == "AVIF" else orientation_of(encoded)
        return turned_size(image.height, image.width, orientation)


@contextmanager
def opened(
    encoded: bytes, max_pixels: int, formats: tuple[str, ...] = _FORMATS
) -> Iterator[Image.Image]:
    """Open the image without decoding it; any failure inside the block becomes a BadImage."""
    if encoded.startswith(png.SIGNATURE):
        encoded = png.without_metadata(encoded)
    try:
        with Image.open(io.BytesIO(encoded), formats=formats) as image:
            check_size(image.height, image.width, max_pixels)
            yield image
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage("more pixels than Pillow decodes") from error
    except UnidentifiedImageError as error:
        raise BadImage(_not_known(encoded)) from error
    except Exception as error:  # Pillow raises almost anything on a damaged file.
        raise BadImage(one_line(error)) from error


def _not_known(encoded: bytes) -> str:
    """Why Pillow does not recognise a file: it is something else, or only begins like an image."""
    kind = kind_of(encoded)
    if kind.endswith(" image") and "JPEG image" not in kind:
        return f"{kind} with a broken header"
    return kind if "JPEG image" in kind else f"{kind}, not an image"
