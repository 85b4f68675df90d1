"""Convert values to 8 bits per channel for the network (``data.range``, ``data.bands``).

    values of any type, any bands -> three or one of the bands -> the range, 0 to 255 -> RGB

Values of 8 bits or less are not changed. Others are mapped linearly and rounded: LOW and below to
0, HIGH and above to 255. Missing data is black.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.config import Bands, Range, RangeSetting
from cp2fast.data.decoding.raster import BadImage, Raster


class Levels(NamedTuple):
    """How values are converted to grey levels."""

    range: Range | None = None
    """The values that become 0 and 255; None is the range of the values' type."""
    bands: Bands | None = None
    """Numbers, from 1, of the bands to show; None follows the file."""

    @staticmethod
    def of(range_: RangeSetting | None, bands: Bands | None) -> Levels:
        """Levels for settings; ``auto`` is treated as the range of the type."""
        return Levels(None if range_ is None or isinstance(range_, str) else range_, bands)


BY_TYPE = Levels()
"""The whole range of each type, and the colours that the file specifies."""


def to_rgb(raster: Raster, levels: Levels) -> NDArray[np.uint8]:
    """Convert a raster to a picture.

    Returns:
        uint8 ``[H, W, 3]``, contiguous, not rotated; grey is repeated in all three channels.

    Raises:
        BadImage: too many bands and none chosen, or a chosen band does not exist.
    """
    raster = select_bands(raster, levels.bands)
    values, missing = raster.values, missing_of(raster)
    if raster.is_wide or values.dtype != np.uint8 or raster.limits != (0, 255):
        low, high = levels.range if raster.is_wide and levels.range else raster.limits
        values = _mapped(values if missing is None else np.where(missing, 0, values), low, high)
    if raster.inverted:
        values = 255 - values
    if missing is not None:
        values = np.where(missing, np.uint8(0), values)
    grey = values.shape[2] == 1
    return np.repeat(values, 3, axis=2) if grey else np.ascontiguousarray(values)


def select_bands(raster: Raster, bands: Bands | None) -> Raster:
    """Reduce a raster to three bands, or to one.

    Raises:
        BadImage: see ``to_rgb``.
    """
    there = raster.values.shape[2]
    if bands is not None and raster.has_bands:
        if max(bands) > there:
            raise BadImage(f"{_counted(there)}, and data.bands asks for number {max(bands)}")
        places: slice | list[int] = [number - 1 for number in bands]
    elif raster.colours is None:
        raise BadImage(
            f"{_counted(there)}: choose three with data.bands=[RED,GREEN,BLUE], or one, counted "
            "from 1 (cp2fast doctor proposes some)"
        )
    else:
        places = slice(0, raster.colours)
    missing = raster.missing
    if missing is not None and missing.shape[2] > 1:
        missing = missing[:, :, places]
    return raster._replace(values=raster.values[:, :, places], missing=missing)


def missing_of(raster: Raster) -> NDArray[np.bool_] | None:
    """Where a raster has no data: bool ``[H, W, C]`` or ``[H, W, 1]``; None means nowhere."""
    missing = raster.missing
    if raster.values.dtype.kind == "f":
        infinite = ~np.isfinite(raster.values)
        missing = infinite if missing is None else missing | infinite
    return None if missing is None or not missing.any() else missing


def _mapped(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind in "bui" and values.dtype.itemsize <= 2:
        unsigned = values.view(f"u{values.dtype.itemsize}")
        levels: NDArray[np.uint8] = _table(values.dtype.str, low, high)[unsigned]
        return levels
    single = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    scaled: NDArray[Any] = values.astype(np.float32 if single else np.float64)
    with np.errstate(over="ignore"):  # beyond the range anyway
        scaled -= low
        scaled *= 255  # before the division, so that halves are exact
        scaled /= high - low
    return _rounded(scaled)


@lru_cache(16)
def _table(dtype: str, low: float, high: float) -> NDArray[np.uint8]:
    """The level of every value of an 8- or 16-bit type, by its bits as an unsigned number."""
    kind = np.dtype(dtype)
    every = np.arange(1 << 8 * kind.itemsize).astype(f"u{kind.itemsize}")
    numbers = (every != 0) if kind.kind == "b" else every.view(kind)
    return _rounded((numbers.astype(np.float64) - low) * 255 / (high - low))


def _rounded(scaled: NDArray[Any]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = (scaled.clip(0, 255) + 0.5).astype(np.uint8)
    return levels


def _counted(bands: int) -> str:
    return f"{bands} band" if bands == 1 else f"{bands} bands"
