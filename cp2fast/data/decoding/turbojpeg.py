"""Direct access to libjpeg-turbo: decode a file's bytes into given memory.

The library is part of simplejpeg's wheel. It is used with the accurate inverse DCT and smooth
upsampling, which gives the same pixels as torchvision and Pillow. (FFCV uses the fast DCT, which is
no faster and differs by up to 10 grey levels, measured on 400-pixel photos of quality 90.)
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding.formats import import_problem


@cache
def problem() -> str | None:
    """Why the library cannot be used, with the fix; None if it can."""
    return import_problem("simplejpeg", "pip install simplejpeg")


def decode_into(encoded: bytes, pixels: NDArray[np.uint8]) -> bool:
    """Decode a JPEG in RGB, YCbCr or grey, releasing Python's lock; its orientation is ignored.

    Args:
        encoded: the whole file.
        pixels: uint8 ``[H, W, 3]``, contiguous; receives RGB.

    Returns:
        Whether the JPEG was flawless and of that size; else ``pixels`` is undefined.
    """
    import simplejpeg

    try:
        decoded = simplejpeg.decode_jpeg(encoded, "RGB", buffer=pixels)
    except ValueError:
        return False
    return bool(decoded.shape == pixels.shape)
