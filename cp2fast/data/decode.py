"""One encoded image to upright pixels, or the reason why not.

    file -> header, orientation -> file without metadata -> decoder -> pixels, turned upright

torchvision decodes the common JPEG, because it is a third faster there; Pillow decodes everything
else: CMYK and other rare JPEG, PNG of every kind, WebP, and what only has the name of one.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from cp2fast.data import jpeg, png
from cp2fast.data.image_set import ImageSet
from cp2fast.data.kinds import kind_of
from cp2fast.data.orientation import jpeg_orientation, orient, orientation_of, upright_size
from cp2fast.data.shrink import shrink
from cp2fast.files import read_bytes

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision 0.29 announces that a later one will be without its decoders.
    decode_jpeg = None

# The limit is data.max_pixels; Pillow would warn of less and refuse more on its own account.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


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


class BadImage(Exception):  # noqa: N818
    """An image that cannot be used; the message is one line that says why."""


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


def decode_image(encoded: bytes, max_pixels: int, max_side: int | None = None) -> Tensor:
    """Decode one image file.

    The Exif orientation is applied (``orientation.py``), alpha is dropped (what lies beneath
    shows, as in Pillow's ``convert("RGB")``), 16 bits are scaled to 8, and of an animation the
    first frame is taken.

    Args:
        encoded: the whole file.
        max_pixels: more than this many are refused before they are decoded.
        max_side: longer images are shrunk to it (``shrink``); None leaves every size.

    Returns:
        uint8 ``[H, W, 3]``, RGB, contiguous.

    Raises:
        BadImage: empty, not an image, damaged, truncated, or too large.
    """
    return torch.from_numpy(shrink(_decode_whole(encoded, max_pixels).numpy(), max_side))


def _decode_whole(encoded: bytes, max_pixels: int) -> Tensor:
    if not encoded:
        raise BadImage("empty file")
    if not encoded.startswith(jpeg.SIGNATURE):
        return orient(_decode_with_pillow(encoded, max_pixels), orientation_of(encoded))
    header = check_jpeg(encoded, max_pixels)
    if header.is_common and decode_jpeg is not None:
        image = _decode_common_jpeg(encoded)
    else:
        image = _decode_with_pillow(jpeg.without_metadata(encoded, header), max_pixels)
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
    with _opened_by_pillow(encoded, max_pixels) as image:
        return upright_size(image.height, image.width, orientation_of(encoded))


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


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse an image of too many pixels.

    Raises:
        BadImage: it is one.
    """
    if height * width > max_pixels:
        raise BadImage(f"{width} x {height} pixels are more than data.max_pixels={max_pixels}")


def _decode_common_jpeg(encoded: bytes) -> Tensor:
    # torch wants a buffer that it may write to; the copy costs a hundredth of the decoding.
    data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    try:
        image_CHW = decode_jpeg(data, mode=ImageReadMode.RGB, apply_exif_orientation=False)
    except RuntimeError as error:
        raise BadImage(_one_line(error).rpartition(", ")[2]) from error
    image: Tensor = image_CHW.permute(1, 2, 0)
    return image.contiguous()


def _decode_with_pillow(encoded: bytes, max_pixels: int) -> Tensor:
    """As stored; the orientation is not applied."""
    with _opened_by_pillow(encoded, max_pixels) as image:
        image.load()
        return torch.from_numpy(np.array(_to_rgb(image)))


@contextmanager
def _opened_by_pillow(encoded: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The image, not decoded yet; whatever fails inside the block is a BadImage."""
    if encoded.startswith(png.SIGNATURE):
        encoded = png.without_metadata(encoded)
    try:
        with Image.open(io.BytesIO(encoded), formats=_PILLOW_FORMATS) as image:
            check_size(image.height, image.width, max_pixels)
            yield image
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage("more pixels than Pillow decodes") from error
    except UnidentifiedImageError as error:
        raise BadImage(_not_known(encoded)) from error
    except Exception as error:  # Pillow raises almost anything on a damaged file.
        raise BadImage(_one_line(error)) from error


def _not_known(encoded: bytes) -> str:
    """Why Pillow does not know a file: it is something else, or only begins like an image."""
    kind = kind_of(encoded)
    if kind in ("a PNG image", "a WebP image", "a GIF image", "a BMP image"):
        return f"{kind} with a broken header"
    return kind if "JPEG image" in kind else f"{kind}, not a JPEG, PNG or WebP"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about going from here to RGB in one step.
    return image.convert("RGB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
