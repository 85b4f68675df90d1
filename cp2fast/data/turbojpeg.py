"""libjpeg-turbo without anything between: from a file's bytes into memory that is given.

The library comes in simplejpeg's wheel. The accurate inverse DCT and smooth upsampling are asked
for: the same pixels as torchvision's and Pillow's. (FFCV asks for the fast DCT, whose pixels are up
to 10 grey levels off, measured on 400-pixel photos of quality 90, and which is no faster.)
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_INSTALL = "pip install simplejpeg"


@cache
def problem() -> str | None:
    """What keeps the library from being used, with the fix; None if nothing does."""
    try:
        import simplejpeg  # noqa: F401
    except ModuleNotFoundError:
        return f"simplejpeg is not installed: {_INSTALL}"
    except Exception as error:  # A broken library can raise anything while it is imported.
        return f"simplejpeg is installed but broken ({error}): {_INSTALL}"
    return None


def decode_into(encoded: bytes, pixels: NDArray[np.uint8]) -> bool:
    """Decode a JPEG into ``pixels``; other threads run on meanwhile.

    Args:
        encoded: the whole file, of RGB, YCbCr or grey; CMYK would be turned into some RGB. Its EXIF
            orientation is ignored.
        pixels: uint8 ``[H, W, 3]``, contiguous; gets RGB.

    Returns:
        Whether this was a JPEG of exactly that size and without a fault; if not, ``pixels`` holds
        anything.
    """
    import simplejpeg

    try:
        decoded = simplejpeg.decode_jpeg(encoded, "RGB", buffer=pixels)
    except ValueError:
        return False
    return bool(decoded.shape == pixels.shape)
