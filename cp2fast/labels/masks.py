"""Read what a mask file stores at each pixel: a number, or a colour packed into one number.

    file -> header -> Pillow, without metadata -> values or colours -> Exif orientation

Palette and grey masks store numbers of 1 to 16 bits. RGB masks store colours, which become
``0xRRGGBB``, or numbers, if a tool saved grey masks as RGB. This is decided once for a whole data
set; ``coding.py`` defines what the numbers mean.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from cp2fast.data.decoding import jpeg, png
from cp2fast.data.decoding.decode import BadImage, read_file
from cp2fast.data.decoding.kinds import kind_of
from cp2fast.data.decoding.orientation import UPRIGHT, orient, orientation_of
from cp2fast.data.decoding.raster import one_line
from cp2fast.errors import UserError

Kind = Literal["values", "equal", "colours"]
"""How masks are read: as numbers, as numbers in three equal channels, or as colours."""

IGNORED = 255
"""What masks store, as a number, where a pixel is excluded from the loss and the evaluation; also
its label."""

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg")
"""Suffixes of mask files; lossless formats come before JPEG."""

_AS_PNG = "save it as a palette or grey PNG whose pixel values are the labels"
_NUMBERED = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
COLOURED = ("RGB", "RGBA", "RGBX")
"""Pillow's modes of masks of colours."""


class Stored(NamedTuple):
    """The pixels of a mask."""

    pixels: NDArray[np.int32]
    """``[H, W]``, numbers below 65,536 or colours ``0xRRGGBB``."""
    mode: str
    """Pillow's mode of the file."""
    is_lossy: bool
    """Whether the file is a JPEG, whose values are only approximate."""
    void: NDArray[np.bool_] | bool = False
    """``[H, W]``, where a palette mask that is read as colours stores 255: as a number this is
    ignored, and its colour often belongs to no class."""


def read_stored(path: Path, kind: Kind) -> Stored:
    """The pixels of a mask, upright.

    As colours, a palette mask is read with its palette and a grey mask as three equal channels.

    Raises:
        UserError: the mask cannot be read or is of another kind.
    """
    encoded = _read(path)
    with _opened(path, encoded) as mask:
        try:
            pixels = _colours(mask) if kind == "colours" else _numbers(mask, path, encoded, kind)
            by_palette = kind == "colours" and mask.mode == "P"
            void = np.asarray(mask) == IGNORED if by_palette else None
        except UserError:
            raise
        except Exception as error:  # Pillow raises almost anything on a damaged file.
            raise UserError(_damaged(path, error)) from error
        mode = mask.mode
        # Pillow has turned TIFF masks.
        turn = UPRIGHT if isinstance(mask, TiffImageFile) else orientation_of(encoded)
    return Stored(
        orient(torch.from_numpy(pixels), turn).numpy(),
        mode,
        encoded.startswith(jpeg.SIGNATURE),
        void is not None and orient(torch.from_numpy(void), turn).numpy(),
    )


def mode_of(path: Path) -> str:
    """Pillow's mode of a mask, from its header. Raises UserError if it cannot be read."""
    with _opened(path, _read(path)) as mask:
        return mask.mode


def colour_name(colour: int) -> str:
    """A colour in hexadecimal notation, such as ``#ff8000``."""
    return f"#{colour:06x}"


def colours_in_words(pixels: Mapping[int, int], shown: int) -> str:
    """The ``shown`` most frequent colours with their pixel counts, and how many more there are."""
    most = sorted(pixels, key=lambda colour: -pixels[colour])
    words = ", ".join(f"{colour_name(c)} ({pixels[c]:,} pixels)" for c in most[:shown])
    return words + (f" and {len(most) - shown} more" if len(most) > shown else "")


def packed(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Colours ``[..., 3]`` packed into numbers ``[...]``."""
    red, green, blue = (rgb[..., channel].astype(np.int32) for channel in range(3))
    return (red << 16) | (green << 8) | blue


def _read(path: Path) -> bytes:
    try:
        return read_file(path)
    except BadImage as error:
        raise UserError(
            f"the mask {path} {error}: change its permissions, or take it out of the split"
        ) from error


def _opened(path: Path, encoded: bytes) -> Image.Image:
    suffix = path.suffix.lower()
    format_ = Image.registered_extensions()[suffix] if suffix in SUFFIXES else "PNG"
    if format_ == "PNG":
        if png.read_header(encoded) is None:
            raise UserError(
                f"the mask {path} cannot be read as PNG because it is {kind_of(encoded)}: {_AS_PNG}"
            )
        encoded = png.without_metadata(encoded)
    try:
        return Image.open(io.BytesIO(encoded), formats=(format_,))
    except Exception as error:  # Pillow raises almost anything on a damaged file.
        if format_ == "PNG":
            raise UserError(_damaged(path, error)) from error
        raise UserError(
            f"the mask {path} cannot be read as {format_}, for it is {kind_of(encoded)}: save "
            "it again, or take it out"
        ) from error


def _colours(mask: Image.Image) -> NDArray[np.int32]:
    """The colours of any mask; alpha is dropped."""
    if mask.mode.startswith("I"):
        values = np.asarray(mask)
        return packed(np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=-1))
    return packed(np.asarray(mask.convert("RGB")))


def _numbers(mask: Image.Image, path: Path, encoded: bytes, kind: Kind) -> NDArray[np.int32]:
    """The numbers as stored, before applying the orientation."""
    if mask.mode in COLOURED and kind == "equal":
        rgb = np.asarray(mask.convert("RGB"))
        if not bool((rgb == rgb[..., :1]).all()):
            raise UserError(
                f"{path} is a mask in colours among masks in grey, all saved as RGB: name the "
                "colours of the classes in data.colours, or take it out"
            )
        return rgb[..., 0].astype(np.int32)
    if mask.mode not in _NUMBERED:
        raise UserError(
            f"{path} is a mask of mode {mask.mode}, which holds no labels: {_AS_PNG}, or name the "
            "colours of the classes in data.colours, classes.csv or labelmap.txt"
        )
    values = np.array(mask)
    if mask.mode == "L" and (bits := _bits(mask, encoded)) < 8:
        values //= 255 // ((1 << bits) - 1)  # Pillow scales them to 0 to 255.
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high >= 1 << 16:
        raise UserError(
            f"the mask {path} holds the value {low if low < 0 else high}: labels have 16 bits, 0 "
            "to 65535"
        )
    return values.astype(np.int32)


def _bits(mask: Image.Image, encoded: bytes) -> int:
    """How many bits of the file a grey pixel has."""
    if isinstance(mask, TiffImageFile):
        return int(mask.tag_v2[BITSPERSAMPLE][0])
    header = png.read_header(encoded)
    return 8 if header is None else header.bits


def _damaged(path: Path, error: Exception) -> str:
    kind = "PNG" if path.suffix.lower() == ".png" else "an image"
    return (
        f"the mask {path} cannot be read as {kind}: {one_line(error)}; save it again, or take it "
        "out of the split"
    )
