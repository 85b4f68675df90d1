"""DICOM with pydicom: the first frame, in the units of its rescaling (Hounsfield units for CT).

    frame -> padding becomes missing data -> modality LUT or slope and intercept -> values
    MONOCHROME1: the lowest value is white; PALETTE COLOR and YBR become RGB

Compressed frames need another library, which pydicom finds: python-gdcm for all kinds of JPEG,
JPEG-LS and JPEG 2000.

Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (modality LUT), C.7.5.1.1.2 (padding).
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding.formats import DICOM
from cp2fast.data.decoding.raster import (
    BadImage,
    Raster,
    check_volume,
    one_line,
    picture,
    reading,
    type_limits,
)

# Many files violate some rule; what matters is whether their pixels can be read.
warnings.filterwarnings("ignore", module=r"pydicom\b")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

_PREAMBLE = 128
_MARK = b"DICM"
_BARE = (b"\x08\0", b"\x02\0")
"""The first group of a file without a preamble, little endian."""


def is_dicom(encoded: bytes) -> bool:
    """Whether a file is DICOM, with or without the preamble that old archives omit."""
    if encoded[_PREAMBLE : _PREAMBLE + 4] == _MARK:
        return True
    return encoded[:2] in _BARE and encoded[3:4] == b"\0" and len(encoded) > _PREAMBLE


def read(encoded: bytes, max_pixels: int) -> Raster:
    """The first frame.

    Raises:
        BadImage: damaged, without pixels, too large, or a required library is missing.
    """
    pydicom = DICOM.module("pydicom")
    data = _dataset(pydicom, encoded, with_pixels=True)
    height, width = _size(data)
    samples, bits = int(data.get("SamplesPerPixel", 1)), int(data.get("BitsAllocated", 16))
    check_volume(height, width, samples * -(-bits // 8), max_pixels)
    try:
        values = pydicom.pixels.pixel_array(data, index=0)
    except Exception as error:  # pydicom and its plugins raise almost anything.
        raise BadImage(_undecodable(data, error)) from error
    with reading("a DICOM image that cannot be read"):
        return _raster(pydicom, data, values.reshape(height, width, -1))


def size(encoded: bytes) -> tuple[int, int]:
    """Height and width."""
    return _size(_dataset(DICOM.module("pydicom"), encoded, with_pixels=False))


def _dataset(pydicom: Any, encoded: bytes, *, with_pixels: bool) -> Any:
    with reading("a DICOM file that cannot be read"):
        return pydicom.dcmread(io.BytesIO(encoded), force=True, stop_before_pixels=not with_pixels)


def _size(data: Any) -> tuple[int, int]:
    height, width = data.get("Rows"), data.get("Columns")
    if not height or not width:
        raise BadImage("a DICOM file without a picture in it")
    return int(height), int(width)


def _raster(pydicom: Any, data: Any, values: NDArray[Any]) -> Raster:
    stored, kind = int(data.get("BitsStored", 16)), str(data.get("PhotometricInterpretation", ""))
    if values.shape[2] == 3:
        return Raster(values, type_limits(values.dtype, stored), 3)
    if kind == "PALETTE COLOR":
        rgb = pydicom.pixels.apply_color_lut(values[:, :, 0], data)
        return picture(rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8))
    rescaled = pydicom.pixels.apply_modality_lut(values, data)
    if rescaled.dtype == np.float64:  # Single precision is enough for rescaled 16-bit values.
        rescaled = rescaled.astype(np.float32)
    return Raster(
        rescaled,
        _rescaled_limits(data, type_limits(values.dtype, stored)),
        1,
        missing=_padding(data, values),
        inverted=kind == "MONOCHROME1",
    )


def _rescaled_limits(data: Any, limits: tuple[float, float]) -> tuple[float, float]:
    """The rescaled values of the lowest and the highest stored value."""
    if "ModalityLUTSequence" in data:
        table = data.ModalityLUTSequence[0]
        return 0.0, float((1 << int(table.LUTDescriptor[2])) - 1)
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    if slope is None or intercept is None:
        return limits
    low, high = sorted(float(slope) * limit + float(intercept) for limit in limits)
    return low, high


def _padding(data: Any, values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Where pixels have the padding value, or one in the padding range: there is no data."""
    first = data.get("PixelPaddingValue")
    if first is None:
        return None
    low, high = sorted((int(first), int(data.get("PixelPaddingRangeLimit", first))))
    return np.logical_and(values >= low, values <= high)


def _undecodable(data: Any, error: Exception) -> str:
    syntax = getattr(data.get("file_meta"), "TransferSyntaxUID", None)
    if "PixelData" not in data and "FloatPixelData" not in data:
        return "a DICOM file without a picture in it"
    if syntax is not None and syntax.is_compressed and "plugins are missing" in str(error):
        return f"{syntax.name} needs a decoder: {DICOM.install}"
    return f"a DICOM image that cannot be read ({one_line(error)})"
