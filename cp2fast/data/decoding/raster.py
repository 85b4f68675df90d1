"""An image's values as stored in its file, before conversion to 8 bits per channel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.batch import LONGEST_SIDE

BYTE = (0.0, 255.0)
"""The limits of an 8-bit channel."""

_MOST_BYTES_PER_PIXEL = 32
"""Limit before bands are chosen, times ``data.max_pixels``: 16 bands of 16 bits."""


class BadImage(Exception):  # noqa: N818
    """An unusable image; the message is one line with the reason."""


class Raster(NamedTuple):
    """The values of an image as stored: not rotated, with all bands.

    Attributes:
        values: ``[H, W, C]`` of any real type.
        limits: the lowest and highest value that the pixel type can have.
        colours: how many of the first bands form the picture, 1 (grey) or 3 (red, green, blue); the
            others are alpha and the like. None if the file does not say what its bands are.
        has_bands: whether ``data.bands`` may choose bands; False for photos.
        missing: where there is no data, bool ``[H, W, C]`` or ``[H, W, 1]``; None means nowhere.
            NaN and infinity always count as no data.
        inverted: whether the lowest value is white.
        orientation: the rotation of the pixels, in Exif's numbering, if the format has its own
            field for it; None means that the file's Exif applies.
        names: names of the bands; empty if the file gives none.
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
        """Whether the values have more than 8 bits, so that a range must be chosen."""
        low, high = self.limits
        return self.values.dtype.kind == "f" or low < BYTE[0] or high > BYTE[1]


def picture(rgb_HW3: NDArray[np.uint8], orientation: int | None = None) -> Raster:
    """The raster of an ordinary 8-bit colour picture."""
    return Raster(rgb_HW3, BYTE, 3, orientation=orientation)


def type_limits(dtype: np.dtype[Any], bits: int | None = None) -> tuple[float, float]:
    """The limits of a real type: of an integer's ``bits`` (None: all of them), else 0 and 1."""
    if dtype.kind in "bf":
        return 0.0, 1.0
    bits = 8 * dtype.itemsize if bits is None else bits
    if dtype.kind == "u":
        return 0.0, float((1 << bits) - 1)
    return -float(1 << (bits - 1)), float((1 << (bits - 1)) - 1)


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Raise BadImage if an image has no pixels, by its header, too long a side, or too many."""
    if min(height, width) < 1:
        raise BadImage(f"its header says {width} x {height} pixels")
    if max(height, width) > LONGEST_SIDE:
        raise BadImage(f"{width} x {height} pixels: a side may have {LONGEST_SIDE}")
    if height * width > max_pixels:
        raise BadImage(f"{width} x {height} pixels are more than data.max_pixels={max_pixels}")


def check_volume(height: int, width: int, bytes_per_pixel: int, max_pixels: int) -> None:
    """Raise BadImage, before decoding, if an image has no or too many pixels, or bytes."""
    check_size(height, width, max_pixels)
    if height * width * bytes_per_pixel > _MOST_BYTES_PER_PIXEL * max_pixels:
        raise BadImage(
            f"{width} x {height} pixels of {bytes_per_pixel} bytes are more than "
            f"{_MOST_BYTES_PER_PIXEL} bytes for each of data.max_pixels={max_pixels}"
        )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Report whatever is raised inside the block, on a damaged file, as a BadImage.

    A lack of memory is not the file's fault.
    """
    try:
        yield
    except (BadImage, MemoryError):
        raise
    except Exception as error:
        raise BadImage(f"{what} ({one_line(error)})") from error


def one_line(error: Exception) -> str:
    """The message of another library's error, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
