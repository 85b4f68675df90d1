"""``.npy``: an array ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]`` of real numbers.

The bands are on the shorter of the first and the last axis; if these are equal, on the last.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding.raster import BadImage, Raster, check_volume, reading, type_limits

SIGNATURE = b"\x93NUMPY"


def read(encoded: bytes, max_pixels: int) -> Raster:
    """One band is grey, three are red, green and blue; other numbers need ``data.bands``."""
    shape, dtype = _header(encoded)
    height, width, bands = _layout(shape)
    check_volume(height, width, bands * dtype.itemsize, max_pixels)
    with reading("a numpy array that cannot be read"):
        values: NDArray[Any] = np.load(io.BytesIO(encoded), allow_pickle=False)
    if values.ndim == 3 and values.shape != (height, width, bands):
        values = values.transpose(1, 2, 0)
    values = values.reshape(height, width, bands).astype(dtype.newbyteorder("="), "C")
    colours = bands if bands in (1, 3) else None
    return Raster(values, type_limits(values.dtype), colours, has_bands=True)


def size(encoded: bytes) -> tuple[int, int]:
    """Height and width."""
    return _layout(_header(encoded)[0])[:2]


def _header(encoded: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    file = io.BytesIO(encoded)
    with reading("a numpy array with a broken header"):
        if np.lib.format.read_magic(file) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise BadImage(f"a numpy array of type {dtype}, which is not a picture")
    return shape, dtype


def _layout(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and bands."""
    if len(shape) not in (2, 3) or not math.prod(shape):
        raise BadImage(f"a numpy array of shape {shape}, which is not a picture")
    if len(shape) == 2:
        return shape[0], shape[1], 1
    if shape[0] < shape[2]:
        return shape[1], shape[2], shape[0]
    return shape[0], shape[1], shape[2]
