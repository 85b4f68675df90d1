"""Choose the decoder by a file's first bytes, because names can be wrong."""

from __future__ import annotations

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
from cp2fast.data.decoding.orientation import orientation_of
from cp2fast.data.decoding.orientation import upright_size as turned_size
from cp2fast.data.decoding.raster import Raster


def read(encoded: bytes, max_pixels: int) -> Raster:
    """The values of any image file except JPEG.

    Raises:
        BadImage: not an image, damaged, too large, or the required library is not installed.
    """
    if dicom.is_dicom(encoded):  # before TIFF: a preamble can make it a valid TIFF too
        return dicom.read(encoded, max_pixels)
    if wide_png.is_wide_png(encoded):
        return wide_png.read(encoded, max_pixels)
    if encoded.startswith(tiff.SIGNATURES):
        return tiff.read(encoded, max_pixels)
    if is_heif(encoded):
        return heif.read(encoded, max_pixels)
    if encoded.startswith(jpeg2000.SIGNATURES):
        return jpeg2000.read(encoded, max_pixels)
    if netpbm.is_wide(encoded):
        return netpbm.read(encoded, max_pixels)
    if encoded.startswith(numpy_array.SIGNATURE):
        return numpy_array.read(encoded, max_pixels)
    return pillow.read(encoded, max_pixels)


def upright_size(encoded: bytes, max_pixels: int) -> tuple[int, int]:
    """Height and width of the result of ``read`` once it is upright, by the file's header.

    Raises:
        BadImage: there is no valid header.
    """
    if dicom.is_dicom(encoded):
        return dicom.size(encoded)
    if is_heif(encoded):
        return heif.size(encoded)
    if encoded.startswith(tiff.SIGNATURES):
        size = tiff.size(encoded)
    elif encoded.startswith(jpeg2000.SIGNATURES):
        return jpeg2000.size(encoded)
    elif encoded.startswith(numpy_array.SIGNATURE):
        return numpy_array.size(encoded)
    else:
        return pillow.upright_size(encoded, max_pixels)
    return turned_size(*size, orientation_of(encoded))
