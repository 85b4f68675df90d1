"""PNG with 16 bits per channel at full depth; Pillow drops the lower 8 bits of colours.

It is read with torchvision, or with imagecodecs if torchvision no longer has decoders.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.data.decoding import png
from cp2fast.data.decoding.formats import WIDE_PNG
from cp2fast.data.decoding.raster import BadImage, Raster, check_volume, reading, type_limits

try:
    from torchvision.io import ImageReadMode, decode_png
except ImportError:  # torchvision 0.29 announces that a later release will drop its decoders.
    decode_png = None


def is_wide_png(encoded: bytes) -> bool:
    """Whether a file is a PNG with 16 bits per channel."""
    header = png.read_header(encoded)
    return header is not None and header.bits == 16 and header.colour_type in png.CHANNELS


def read(encoded: bytes, max_pixels: int) -> Raster:
    """Grey or colour in 16 bits; alpha is the last band and not part of the picture."""
    header = png.read_header(encoded)
    if header is None or header.colour_type not in png.CHANNELS:
        raise BadImage("a PNG image with a broken header")
    channels = png.CHANNELS[header.colour_type]
    check_volume(header.height, header.width, 2 * channels, max_pixels)
    with reading("a damaged PNG image"):
        values = _decoded(png.without_metadata(encoded))
    values = values.reshape(header.height, header.width, channels)
    return Raster(values, type_limits(values.dtype), 1 if channels < 3 else 3)


def _decoded(encoded: bytes) -> NDArray[Any]:
    if decode_png is None:
        decoded: NDArray[Any] = WIDE_PNG.module("imagecodecs").png_decode(encoded)
        return decoded
    data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    image_CHW = decode_png(data, mode=ImageReadMode.UNCHANGED)
    return np.asarray(image_CHW.permute(1, 2, 0).contiguous().numpy())
