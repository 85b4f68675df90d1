"""An image's values as its file holds them, before they become 8 bits a channel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BYTE = (0.0, 255.0)
"""The limits of a channel of 8 bits."""

_MOST_BYTES_A_PIXEL = 32
"""Of ``data.max_pixels``, that an image may take before bands are chosen: 16 bands of 16 bits."""


class BadImage(Exception):  # noqa: N818
    """An image that cannot be used; the message is one line that says why."""


class Raster(NamedTuple):
    """The values of an image, as stored: not turned, no band left out.

    Attributes:
        values: ``[H, W, C]`` of any real type.
        limits: the lowest and the highest value that the type of the pixels can have.
        colours: how many of the first bands are the picture, 1 (grey) or 3 (red, green, blue); the
            rest is alpha and the like. None where the file does not say which bands are which.
        has_bands: whether ``data.bands`` may choose among them; not of photos.
        missing: where there is no data, bool ``[H, W, C]`` or ``[H, W, 1]``; None is nowhere. NaN
            and infinity are no data either, here or not.
        inverted: whether the lowest value is white.
        orientation: how the pixels are turned, as Exif numbers it, where the format has a way of
            its own to say so; None leaves it to the file's Exif.
        names: names of the bands, where the file gives some; else empty.
    """

    values: NDArray[Any]
    limits: tuple[float, float]
    colours: int | None
    has_bands: bool = False
    missing: NDArray[np.bool_] | None = None
    inverted: bool = False
    orientation: int | None = None
    names: tuple[str, ...] = ()

    @property
    def is_wide(self) -> bool:
        """Whether the values have more than 8 bits, so that a range has to be chosen."""
        low, high = self.limits
        return self.values.dtype.kind == "f" or low < BYTE[0] or high > BYTE[1]


def picture(rgb_HW3: NDArray[np.uint8], orientation: int | None = None) -> Raster:
    """The raster of an ordinary picture: 8 bits, in colour."""
    return Raster(rgb_HW3, BYTE, 3, orientation=orientation)


def type_limits(dtype: np.dtype[Any], bits: int | None = None) -> tuple[float, float]:
    """The lowest and highest value of a type: of integers their own, of floats 0 and 1.

    Args:
        dtype: real.
        bits: that are in use of an integer; None is all.
    """
    if dtype.kind == "b":
        return 0.0, 1.0
    if dtype.kind == "f":
        return 0.0, 1.0
    bits = 8 * dtype.itemsize if bits is None else bits
    if dtype.kind == "u":
        return 0.0, float((1 << bits) - 1)
    return -float(1 << (bits - 1)), float((1 << (bits - 1)) - 1)


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse an image of too many pixels.

    Raises:
        BadImage: it is one.
    """
    if height * width > max_pixels:
        raise BadImage(f"{width} x {height} pixels are more than data.max_pixels={max_pixels}")


def check_volume(height: int, width: int, bytes_a_pixel: int, max_pixels: int) -> None:
    """Refuse an image whose pixels are too many, or together too large, before it is decoded.

    Raises:
        BadImage: it is one.
    """
    check_size(height, width, max_pixels)
    if height * width * bytes_a_pixel > _MOST_BYTES_A_PIXEL * max_pixels:
        raise BadImage(
            f"{width} x {height} pixels of {bytes_a_pixel} bytes are more than "
            f"{_MOST_BYTES_A_PIXEL} bytes for each of data.max_pixels={max_pixels}"
        )


def one_line(error: Exception) -> str:
    """The message of another library's error, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
