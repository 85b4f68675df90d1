"""One encoded image to upright pixels, or the reason why not.

    file -> header, orientation -> file without metadata -> decoder -> values -> 8 bits, RGB
                                                                    -> turned upright

torchvision decodes the common JPEG, because it is a third faster there; everything else goes to the
decoder of its content (``decoders``), whatever its name says.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cp2fast.data import jpeg
from cp2fast.data.decoders import by_content, pillow
from cp2fast.data.image_set import ImageSet
from cp2fast.data.levels import BY_TYPE, Levels, to_rgb
from cp2fast.data.orientation import jpeg_orientation, orient, orientation_of, upright_size
from cp2fast.data.raster import BadImage as BadImage
from cp2fast.data.raster import Raster, one_line
from cp2fast.data.raster import check_size as check_size
from cp2fast.data.shrink import shrink
from cp2fast.files import read_bytes

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision 0.29 announces that a later one will be without its decoders.
    decode_jpeg = None


class CommonJpeg(NamedTuple):
    """A JPEG file that every decoder reads alike, for a source that decodes it by itself.

    What it decodes is upright once ``orientation.orient`` has turned it.
    """

    encoded: bytes
    """Without metadata, so that no decoder can trip over it or heed its orientation."""
    height: int
    """As stored, before it is turned."""
    width: int
    orientation: int


def read_image(images: ImageSet, index: int) -> bytes:
    """The bytes of an encoded image.

    Raises:
        BadImage: it cannot be read.
    """
    try:
        return images.read(index)
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}") from error


def read_file(path: Path) -> bytes:
    """The bytes of an encoded image that is a file of its own.

    Raises:
        BadImage: it cannot be read.
    """
    try:
        return read_bytes(path)
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}") from error


def decode_image(
    encoded: bytes, max_pixels: int, max_side: int | None = None, levels: Levels = BY_TYPE
) -> Tensor:
    """Decode one image file of any kind, told by its content.

    The orientation is applied (``orientation.py``), alpha is dropped (what lies beneath shows, as
    in Pillow's ``convert("RGB")``), more than 8 bits are mapped to 8 (``levels.py``), and of an
    animation, a stack or a series the first picture is taken.

    Args:
        encoded: the whole file.
        max_pixels: more than this many are refused before they are decoded.
        max_side: longer images are shrunk to it (``shrink``); None leaves every size.
        levels: the range of values, and the bands; a JPEG knows neither.

    Returns:
        uint8 ``[H, W, 3]``, RGB, contiguous.

    Raises:
        BadImage: empty, not an image, damaged, truncated, too large, of bands none of which are
            chosen, or of a kind whose library is not installed.
    """
    return torch.from_numpy(shrink(_decode_whole(encoded, max_pixels, levels).numpy(), max_side))


def decode_raster(encoded: bytes, max_pixels: int) -> Raster:
    """The values of an image file, as stored and not turned.

    Raises:
        BadImage: as ``decode_image``, but for the bands.
    """
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
    """The file if it is a common and, by its look, intact JPEG; None is for ``decode_image``.

    Raises:
        BadImage: a JPEG with a broken header, or too large.
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
    """Height and width of what ``decode_image`` would give, by the file's header.

    Raises:
        BadImage: there is no such header, or the image is too large.
    """
    if encoded.startswith(jpeg.SIGNATURE):
        header = check_jpeg(encoded, max_pixels)
        return upright_size(header.height, header.width, jpeg_orientation(encoded, header))
    height, width = by_content.upright_size(encoded, max_pixels)
    check_size(height, width, max_pixels)
    return height, width


def check_jpeg(encoded: bytes, max_pixels: int) -> jpeg.Header:
    """The header of a JPEG file that is worth decoding.

    Raises:
        BadImage: the header is broken, or the image too large.
    """
    header = jpeg.read_header(encoded)
    if header is None:
        raise BadImage("broken JPEG header")
    check_size(header.height, header.width, max_pixels)
    return header


def _decode_common_jpeg(encoded: bytes) -> Tensor:
    # torch wants a buffer that it may write to; the copy costs a hundredth of the decoding.
    data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    try:
        image_CHW = decode_jpeg(data, mode=ImageReadMode.RGB, apply_exif_orientation=False)
    except RuntimeError as error:
        raise BadImage(one_line(error).rpartition(", ")[2]) from error
    image: Tensor = image_CHW.permute(1, 2, 0)
    return image.contiguous()
