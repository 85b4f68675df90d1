"""Decode one image to upright pixels, or find the reason why it cannot be decoded.

    file -> header, orientation -> file without metadata -> decoder -> values -> 8 bits, RGB
                                                                    -> turned upright

torchvision decodes common JPEGs, because it is faster by a third; everything else goes to the
decoder for its content (``decoders/``), regardless of the file name.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cp2fast.data.decoding import jpeg
from cp2fast.data.decoding.decoders import by_content, pillow
from cp2fast.data.decoding.levels import BY_TYPE, Levels, to_rgb
from cp2fast.data.decoding.orientation import jpeg_orientation, orient, orientation_of, upright_size
from cp2fast.data.decoding.raster import BadImage as BadImage
from cp2fast.data.decoding.raster import Raster, one_line
from cp2fast.data.decoding.raster import check_size as check_size
from cp2fast.data.decoding.shrink import shrink
from cp2fast.files import read_bytes

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision 0.29 announces that a later release will drop its decoders.
    decode_jpeg = None


class CommonJpeg(NamedTuple):
    """A JPEG file that all decoders read alike, for a source with its own decoder.

    The decoded image must be rotated with ``orientation.orient``.
    """

    encoded: bytes
    """Without metadata, so that no decoder fails on it or applies its orientation."""
    height: int
    """As stored, before rotation."""
    width: int
    orientation: int


def read_file(path: Path) -> bytes:
    """The bytes of an encoded image in a separate file. Raises BadImage."""
    try:
        return read_bytes(path)
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}") from error


def decode_image(
    encoded: bytes, max_pixels: int, max_side: int | None = None, levels: Levels = BY_TYPE
) -> Tensor:
    """Decode one image file of any format, detected from its content.

    The orientation is applied (``orientation.py``), alpha is dropped (the colours beneath are
    shown, as in Pillow's ``convert("RGB")``), and values of more than 8 bits are mapped to 8
    (``levels.py``). The first image of an animation, a stack or a series is used.

    Args:
        encoded: the whole file.
        max_pixels: larger images are refused before they are decoded.
        max_side: images with a longer side are shrunk to it (``shrink``); None keeps every size.
        levels: range of values, and the bands; ignored for JPEG.

    Returns:
        uint8 ``[H, W, 3]``, RGB, contiguous.

    Raises:
        BadImage: empty, not an image, damaged, truncated, too large, with more bands than three and
            none chosen, or of a format whose library is missing.
    """
    return torch.from_numpy(shrink(_decode_whole(encoded, max_pixels, levels).numpy(), max_side))


def decode_raster(encoded: bytes, max_pixels: int) -> Raster:
    """The values of an image file, as stored and not rotated. Raises as ``decode_image``."""
    if not encoded.startswith(jpeg.SIGNATURE):
        return by_content.read(encoded, max_pixels)
    header = check_jpeg(encoded, max_pixels)
    return pillow.read(jpeg.without_metadata(encoded, header), max_pixels)


def _decode_whole(encoded: bytes, max_pixels: int, levels: Levels) -> Tensor:
    if not encoded:
        raise BadImage("empty file")
    if not encoded.startswith(jpeg.SIGNATURE):
        raster = by_content.read(encoded, max_pixels)
        own = raster.orientation
        turn = orientation_of(encoded) if own is None else own
        return orient(torch.from_numpy(to_rgb(raster, levels)), turn)
    header = check_jpeg(encoded, max_pixels)
    if header.is_common and decode_jpeg is not None:
        image = _decode_common_jpeg(encoded)
    else:
        raster = pillow.read(jpeg.without_metadata(encoded, header), max_pixels)
        image = torch.from_numpy(raster.values)
    return orient(image, jpeg_orientation(encoded, header))


def common_jpeg(encoded: bytes, max_pixels: int) -> CommonJpeg | None:
    """The file if it is a common JPEG that looks intact; None means: use ``decode_image``.

    Raises:
        BadImage: a JPEG with a broken header or too many pixels.
    """
    if not encoded.startswith(jpeg.SIGNATURE):
        return None
    header = check_jpeg(encoded, max_pixels)
    if not header.is_common or not jpeg.is_intact(encoded, header):
        return None
    return CommonJpeg(
        jpeg.without_metadata(encoded, header),
        header.height,
        header.width,
        jpeg_orientation(encoded, header),
    )


def image_size(encoded: bytes, max_pixels: int) -> tuple[int, int]:
    """Height and width of the result of ``decode_image``, from the file's header.

    Raises:
        BadImage: there is no valid header, or the image is too large.
    """
    if encoded.startswith(jpeg.SIGNATURE):
        header = check_jpeg(encoded, max_pixels)
        return upright_size(header.height, header.width, jpeg_orientation(encoded, header))
    height, width = by_content.upright_size(encoded, max_pixels)
    check_size(height, width, max_pixels)
    return height, width


def check_jpeg(encoded: bytes, max_pixels: int) -> jpeg.Header:
    """The header of a JPEG file. Raises BadImage if it is broken, or the image too large."""
    header = jpeg.read_header(encoded)
    if header is None:
        raise BadImage("broken JPEG header")
    check_size(header.height, header.width, max_pixels)
    return header


def _decode_common_jpeg(encoded: bytes) -> Tensor:
    # torch needs a writable buffer; the copy takes a hundredth of the decoding time.
    data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    try:
        image_CHW = decode_jpeg(data, mode=ImageReadMode.RGB, apply_exif_orientation=False)
    except RuntimeError as error:
        raise BadImage(one_line(error).rpartition(", ")[2]) from error
    image: Tensor = image_CHW.permute(1, 2, 0)
    return image.contiguous()
