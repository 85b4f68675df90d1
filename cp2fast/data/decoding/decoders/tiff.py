"""TIFF, BigTIFF and GeoTIFF with tifffile: any bit depth, any bands, the file's first image.

    first series -> its first page, or one page per channel -> values [H, W, C]
                    and from the tags: the meaning of the bands and the no-data value

Sources: TIFF 6.0; the tags GDAL_NODATA (42113) and GDAL_METADATA of GDAL's GeoTIFF driver.
"""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding.decoders import pillow
from cp2fast.data.decoding.formats import TIFF
from cp2fast.data.decoding.orientation import UPRIGHT
from cp2fast.data.decoding.raster import (
    BadImage,
    Raster,
    check_volume,
    one_line,
    picture,
    type_limits,
)

# It logs oddities of a file to stderr; what matters is whether the pixels can be read.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_METADATA, _NODATA = 42112, 42113
_NEAR_THE_LIMIT, _ROUNDING = 1e30, 1e-5
_NAME = re.compile(r'sample="(\d+)" role="(description|colorinterp)">([^<]*)<')
"""A band's name in GDAL's metadata, which is XML."""
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)
_PHOTOS = (_CMYK, _YCBCR, 8, 9)
"""Colour spaces that Pillow has to convert: CMYK, YCbCr, CIELab and ICCLab."""
_ALPHA = (1, 2)
"""Values of the tag ExtraSamples; 0 is a band without a meaning."""
_JPEG = (6, 7, 34892)
"""Compressions whose decoders give RGB although the file says YCbCr."""


def read(encoded: bytes, max_pixels: int) -> Raster:
    """The first page; for stacks from microscopes, all channels of the first plane.

    Raises:
        BadImage: damaged, too large, with complex numbers, or tifffile is missing.
    """
    with _opened(encoded) as file:
        series, page = file.series[0], file.series[0].keyframe
        photometric = int(page.photometric)
        channels, places = _pages_of_channels(series)
        samples = max(1, page.samplesperpixel)
        bits = page.bitspersample
        size = math.ceil(samples * channels * bits / 8)
        check_volume(page.imagelength, page.imagewidth, size, max_pixels)
        if photometric in _PHOTOS and int(page.compression) not in _JPEG:
            return _photo(encoded, max_pixels)
        if channels == 1:
            values = _upright_axes(page.asarray(), page.axes)
        else:
            planes = [series.pages[place].asarray() for place in places]
            values = np.concatenate([_upright_axes(p, page.axes) for p in planes], axis=2)
        if values.shape[:2] != (page.imagelength, page.imagewidth):
            raise BadImage(f"a TIFF image whose pixels cannot be read ({bits} bits a sample)")
        nodata, names = _nodata(page), _names(page)
        extra = tuple(map(int, page.extrasamples or ()))
        if photometric == _PALETTE and page.colormap is not None:
            return picture(_coloured(values, page.colormap))
    if values.dtype.kind not in "buif":
        raise BadImage(f"its values are of type {values.dtype}, which are not a picture")
    return Raster(
        values,
        type_limits(values.dtype, bits if values.dtype.kind in "ui" else None),
        _colours(values.shape[2], photometric, channels, extra),
        has_bands=True,
        missing=None if nodata is None else _equal(values, nodata),
        inverted=photometric == _WHITE_IS_ZERO,
        names=names,
    )


def size(encoded: bytes) -> tuple[int, int]:
    """Height and width as stored."""
    with _opened(encoded) as file:
        page = file.pages.first
        return int(page.imagelength), int(page.imagewidth)


@contextmanager
def _opened(encoded: bytes) -> Iterator[Any]:
    tifffile = TIFF.module("tifffile")
    try:
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            yield file
    except BadImage:
        raise
    except Exception as error:  # tifffile and its codecs raise almost anything on damaged files.
        reason = one_line(error)
        if "imagecodecs" in reason and "require" in reason:
            reason = f"{reason}: {TIFF.install}"
        raise BadImage(f"a TIFF image that cannot be read ({reason})") from error


def _pages_of_channels(series: Any) -> tuple[int, list[int]]:
    """The number of channels in separate pages, and their pages at index 0 of all other axes."""
    shape, outer = series.shape, series.axes.removesuffix(series.keyframe.axes)
    if "C" not in outer:
        return 1, [0]
    place = outer.index("C")
    step = math.prod(shape[place + 1 : len(outer)])
    return shape[place], [channel * step for channel in range(shape[place])]


def _upright_axes(values: NDArray[Any], axes: str) -> NDArray[Any]:
    """``[H, W, C]`` from a page with axes Y, X, and S if it has several samples."""
    if axes == "YX":
        return values[:, :, None]
    if axes == "YXS":
        return values
    if axes == "SYX":
        return np.ascontiguousarray(values.transpose(1, 2, 0))
    raise BadImage(f"a TIFF image of axes {axes}, which is not a picture of two dimensions")


def _coloured(values: NDArray[Any], colormap: NDArray[Any]) -> NDArray[np.uint8]:
    """The colours of a palette, 16-bit ``[3, N]``, as 8 bits, as in other readers."""
    if colormap.ndim != 2 or len(colormap) != 3:
        raise BadImage(f"a TIFF image with a palette of shape {colormap.shape}")
    table = (colormap.T >> 8).astype(np.uint8)
    return np.asarray(table[values[:, :, 0]])


def _colours(bands: int, photometric: int, channels: int, extra: tuple[int, ...]) -> int | None:
    """How many of the first bands form the picture; None if the file does not say."""
    if photometric in (_RGB, _YCBCR) and bands >= 3:
        return 3
    unnamed = bands - sum(kind in _ALPHA for kind in extra)
    return 1 if unnamed == 1 and channels == 1 else None


def _photo(encoded: bytes, max_pixels: int) -> Raster:
    with pillow.opened(encoded, max_pixels, ("TIFF",)) as image:
        image.load()  # Pillow turns TIFF images upright.
        return picture(np.array(image.convert("RGB")), UPRIGHT)


def _names(page: Any) -> tuple[str, ...]:
    """GDAL's name for each band: its description, else its colour."""
    tag = page.tags.get(_METADATA)
    names: dict[int, str] = {}
    for sample, role, name in _NAME.findall("" if tag is None else str(tag.value)):
        if role == "description" or int(sample) not in names:
            names[int(sample)] = name
    return tuple(names.get(band, "") for band in range(max(names, default=-1) + 1))


def _equal(values: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where the no-data value is; one near the limit of floats is often printed rounded."""
    if values.dtype.kind == "f" and abs(nodata) > _NEAR_THE_LIMIT:
        return np.asarray(np.isclose(values, nodata, rtol=_ROUNDING, atol=0))
    return np.asarray(values == nodata)


def _nodata(page: Any) -> float | None:
    """GDAL's no-data value for all bands; NaN needs none."""
    tag = page.tags.get(_NODATA)
    if tag is None:
        return None
    try:
        value = float(str(tag.value).strip("\0 "))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
