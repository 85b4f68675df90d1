"""Choose the decoder by a file's first bytes, because names can be wrong."""

from __future__ import annotations

from types import ModuleType

from cp2fast.data.decoding.decoders import (
    dicom,
    heif,
    jpeg2000,
    netpbm,
    numpy_array,
    pillow,
    tiff,
    wide_png,
)
from cp2fast.data.decoding.kinds import is_heif
from cp2fast.data.decoding.orientation import UPRIGHT, orientation_of
from cp2fast.data.decoding.orientation import upright_size as turned_size
from cp2fast.data.decoding.raster import Raster, reading


def read(encoded: bytes, max_pixels: int) -> Raster:
    """The values of any image file except JPEG.

    Raises:
        BadImage: not an image, damaged, too large, or the required library is not installed.
    """
    with reading("an image that cannot be read"):
        raster: Raster = _decoder(encoded).read(encoded, max_pixels)
        return raster


def upright_size(encoded: bytes, max_pixels: int) -> tuple[int, int]:
    """Height and width of the result of ``read`` once it is upright, by the file's header.

    Raises:
        BadImage: there is no valid header.
    """
    with reading("an image that cannot be read"):
        decoder = _decoder(encoded)
        if decoder in (pillow, wide_png, netpbm):  # Pillow reads the headers of all of these.
            return pillow.upright_size(encoded, max_pixels)
        height, width = decoder.size(encoded)
        return turned_size(height, width, orientation_of(encoded) if decoder is tiff else UPRIGHT)


def _decoder(encoded: bytes) -> ModuleType:
    if dicom.is_dicom(encoded):  # before TIFF: a preamble can make it a valid TIFF too
        return dicom
    if wide_png.is_wide_png(encoded):
        return wide_png
    if encoded.startswith(tiff.SIGNATURES):
        return tiff
    if is_heif(encoded):
        return heif
    if encoded.startswith(jpeg2000.SIGNATURES):
        return jpeg2000
    if netpbm.is_wide(encoded):
        return netpbm
    return numpy_array if encoded.startswith(numpy_array.SIGNATURE) else pillow
