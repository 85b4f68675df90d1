"""Shrink photos after decoding (``data.max_side``), by averaging the area of each pixel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Totals = NDArray[np.float32] | NDArray[np.float64]
_MOST_IN_SINGLE = 256
"""Pixels of a row or a column that single precision sums to a few 0.001 of a grey level."""


def fitted(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """Height and width of an image after limiting its longer side to ``max_side``."""
    longest = max(height, width)
    if max_side is None or longest <= max_side:
        return height, width
    return max(1, round(height * max_side / longest)), max(1, round(width * max_side / longest))


def shrink(image: Pixels, max_side: int | None) -> Pixels:
    """Resize the image to the size from ``fitted``; returns the image itself if that is its size.

    Each new pixel is the mean of the area that it covers, including fractions of pixels at the
    edges. It is within 0.51 grey levels of the exact mean: 0.5 from rounding, the rest from summing
    in single precision, or in double if there are many pixels. Python's lock is released meanwhile.
    """
    height, width, _ = image.shape
    size = fitted(height, width, max_side)
    if size == (height, width):
        return image
    small = np.empty((*size, 3), np.uint8)
    factor = max(height / size[0], width / size[1])
    total = np.empty(3 * width, np.float32 if factor <= _MOST_IN_SINGLE else np.float64)
    _area_mean()(image, small, total)
    return small


@cache
def _area_mean() -> Callable[[Pixels, Pixels, Totals], None]:
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def part(low: float, high: float, place: int) -> np.float32:
        """The fraction of pixel ``place`` that lies between two edges."""
        return np.float32(min(high, place + 1.0) - max(low, float(place)))

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def area_mean(image: Pixels, small: Pixels, total: Totals) -> None:
        height, width, _ = image.shape
        down, across = height / small.shape[0], width / small.shape[1]
        real = total.dtype.type
        area = real(down * across)
        rows = image.reshape(height, 3 * width)
        for y in range(small.shape[0]):
            top, bottom = y * down, min((y + 1) * down, float(height))
            total[:] = 0
            for row in range(int(top), int(np.ceil(bottom))):
                share = part(top, bottom, row)
                for i in range(3 * width):
                    total[i] += share * rows[row, i]
            for x in range(small.shape[1]):
                left, right = x * across, min((x + 1) * across, float(width))
                for channel in range(3):
                    value = real(0)
                    for column in range(int(left), int(np.ceil(right))):
                        value += part(left, right, column) * total[3 * column + channel]
                    small[y, x, channel] = np.uint8(value / area + real(0.5))

    compiled: Callable[[Pixels, Pixels, Totals], None] = area_mean
    return compiled
