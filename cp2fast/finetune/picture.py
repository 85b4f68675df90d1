"""Open a picture of any size so that its rows can be read band by band.

| file | how | memory |
|---|---|---|
| TIFF, 8 bits and three bands | decoded into a mapped temporary file | a few tiles |
| PNG, not interlaced | the same, band by band | the encoded file |
| JPEG | the same | the encoded file; if progressive, its coefficients |
| anything else, or turned by its metadata | decoded as a whole | the encoded file and the pixels |

The system writes a mapped file to disk and drops it from memory wherever memory is short.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding import jpeg, png_bands, turbojpeg
from cp2fast.data.decoding.decode import common_jpeg, decode_image, image_size
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.decoding.orientation import UPRIGHT, orientation_of
from cp2fast.finetune.outputs import Photo, mapped

Pixels: TypeAlias = NDArray[np.uint8]

_ANY_SIZE = 1 << 62
_TIFF = (".tif", ".tiff")
_ROWS = 256
"""Rows of a PNG decoded at once."""
_RGB, _YCBCR, _JPEG = 2, 6, 7
_ORIENTATION, _NODATA = 274, 42113


def picture_size(photo: Photo) -> tuple[int, int]:
    """Height and width from the header; a TIFF in a file of its own is not read whole.

    Raises:
        BadImage: the header does not give the size.
    """
    size = _tiff_size(photo.path) if _is_tiff(photo.path) else None
    return size or image_size(photo.read(), _ANY_SIZE)


def open_picture(photo: Photo, levels: Levels) -> Pixels:
    """The pixels, ``[H, W, 3]``, of a picture of any size.

    A temporary file, of three bytes a pixel, lies in the folder of its outputs, which exists.

    Raises:
        BadImage: it cannot be read.
        OSError: the temporary file cannot be written.
    """

    def new(height: int, width: int) -> Pixels:
        return mapped(photo.outputs.mask.parent, np.uint8, (height, width, 3))

    plain = _is_tiff(photo.path) and levels.bands is None
    pixels = _of_tiff(photo.path, new) if plain else None
    return _decoded(photo.read(), levels, new) if pixels is None else pixels


def _decoded(encoded: bytes, levels: Levels, new: Callable[[int, int], Pixels]) -> Pixels:
    upright = orientation_of(encoded) == UPRIGHT
    if encoded.startswith(jpeg.SIGNATURE) and upright and turbojpeg.problem() is None:
        common = common_jpeg(encoded, _ANY_SIZE)
        if common is not None:
            pixels = new(common.height, common.width)
            if turbojpeg.decode_into(common.encoded, pixels):
                return pixels
    elif png_bands.can_cut(encoded) and upright:
        pixels, top = new(*image_size(encoded, _ANY_SIZE)), 0
        for band in png_bands.bands(encoded, _ROWS):
            decoded = decode_image(band, _ANY_SIZE, levels=levels)
            pixels[top : top + len(decoded)] = decoded.numpy()
            top += len(decoded)
        return pixels
    return decode_image(encoded, _ANY_SIZE, levels=levels).numpy()  # or says what is wrong


def _is_tiff(path: Path | None) -> bool:
    return path is not None and path.suffix.lower() in _TIFF


def _tiff_size(path: Path | None) -> tuple[int, int] | None:
    """Height and width of an upright TIFF file without reading it whole; None if not available."""
    try:
        import tifffile

        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            return (int(page.imagelength), int(page.imagewidth)) if _is_upright(page) else None
    except Exception:  # It is missing, or raises almost anything on a damaged file.
        return None


def _of_tiff(path: Path | None, new: Callable[[int, int], Pixels]) -> Pixels | None:
    """The pixels of a plain TIFF file in a new array.

    None if it is not plain; then the usual decoder is tried and reports its own error.
    """
    try:
        import tifffile

        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            size = (int(page.imagelength), int(page.imagewidth))
            if page.shape != (*size, 3) or page.dtype != np.uint8 or not _is_upright(page):
                return None
            if not _shows_rgb(page):
                return None
            pixels = new(*size)
            page.asarray(out=pixels)
            return pixels
    except Exception:  # It is missing, or raises almost anything on a damaged file.
        return None


def _is_upright(page: Any) -> bool:
    tag = page.tags.get(_ORIENTATION)
    return tag is None or int(tag.value) == UPRIGHT


def _shows_rgb(page: Any) -> bool:
    """Whether decoded values are red, green and blue, none of which stands for missing data."""
    nodata = page.tags.get(_NODATA)
    if nodata is not None and str(nodata.value).strip("\0 ") != "0":
        return False
    kind, compression = int(page.photometric), int(page.compression)
    return kind == _RGB or (kind == _YCBCR and compression == _JPEG)  # the codec converts it
