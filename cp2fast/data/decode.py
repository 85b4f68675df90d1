"""One encoded image to pixels, or the reason why not.

torchvision decodes the common JPEG, because it is a third faster there; Pillow decodes everything
else: CMYK and other rare JPEG, PNG of every kind, WebP, and what only has the name of one.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cp2fast.data import jpeg
from cp2fast.data.images import ImageSet
from cp2fast.data.shrink import shrink

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision 0.29 announces that a later one will be without its decoders.
    decode_jpeg = None

# The limit is data.max_pixels; Pillow would warn of less and refuse more on its own account.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


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
        return path.read_bytes()
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}") from error


def decode_image(encoded: bytes, max_pixels: int, max_side: int | None = None) -> Tensor:
    """Decode one image file.

    The EXIF orientation is applied, alpha is dropped (what lies beneath shows, as in Pillow's
    ``convert("RGB")``), 16 bits are scaled to 8, and of an animation the first frame is taken.

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
    if encoded.startswith(jpeg.SIGNATURE):
        header = check_jpeg(encoded, max_pixels)
        if header.is_common and decode_jpeg is not None:
            return _decode_common_jpeg(encoded)
    return _decode_with_pillow(encoded, max_pixels)


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
        image_CHW = decode_jpeg(data, mode=ImageReadMode.RGB, apply_exif_orientation=True)
    except RuntimeError as error:
        raise BadImage(_one_line(error).rpartition(", ")[2]) from error
    image: Tensor = image_CHW.permute(1, 2, 0)
    return image.contiguous()


def _decode_with_pillow(encoded: bytes, max_pixels: int) -> Tensor:
    try:
        with Image.open(io.BytesIO(encoded), formats=_PILLOW_FORMATS) as image:
            check_size(image.height, image.width, max_pixels)
            image.load()
            return torch.from_numpy(np.array(_to_rgb(ImageOps.exif_transpose(image))))
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage("more pixels than Pillow decodes") from error
    except UnidentifiedImageError as error:
        raise BadImage("not an image of a known format") from error
    except Exception as error:  # Pillow raises almost anything on a damaged file.
        raise BadImage(_one_line(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about going from here to RGB in one step.
    return image.convert("RGB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
