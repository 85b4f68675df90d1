"""The system's own libjpeg-turbo, if any: a ceiling in addition to the one in the wheel."""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, c_char_p, c_int, c_ulong, c_void_p
from functools import cache

import numpy as np
from numpy.typing import NDArray

_LIBRARY = "libturbojpeg.so.0"
_RGB_PIXELS = 0
_COLOUR_SPACES = (0, 1, 2)  # RGB, YCbCr and grey, but not CMYK and YCCK
_ACCURATE_DCT = 4096


class _Decompressor(threading.local):
    """A decoder's state, of which each thread has its own; it is kept as long as the process."""

    def __init__(self) -> None:
        self.handle: int = _library().tjInitDecompress()


def problem() -> str | None:
    """Why the library cannot be used, with the fix; None if it can."""
    try:
        _library()
    except OSError as error:
        return f"{_LIBRARY} cannot be loaded ({error}): apt-get install libturbojpeg0-dev"
    return None


def decode_into(encoded: bytes, pixels: NDArray[np.uint8]) -> bool:
    """Decode a JPEG into ``pixels``, releasing Python's lock.

    Args:
        encoded: the whole file. The EXIF orientation is ignored.
        pixels: uint8 ``[H, W, 3]``, contiguous; receives RGB.

    Returns:
        Whether this was a flawless JPEG of exactly that size, in RGB, YCbCr or grey; if not, the
        content of ``pixels`` is undefined.
    """
    library, handle = _library(), _decompressor().handle
    width, height, subsampling, colours = c_int(), c_int(), c_int(), c_int()
    header = (byref(width), byref(height), byref(subsampling), byref(colours))
    if library.tjDecompressHeader3(handle, encoded, len(encoded), *header) != 0:
        return False
    if (height.value, width.value, 3) != pixels.shape or colours.value not in _COLOUR_SPACES:
        return False
    place = (pixels.ctypes.data, width, width.value * 3, height)
    failed = library.tjDecompress2(
        handle, encoded, len(encoded), *place, _RGB_PIXELS, _ACCURATE_DCT
    )
    return bool(failed == 0)


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    library.tjInitDecompress.restype = c_void_p
    library.tjInitDecompress.argtypes = []
    library.tjDecompressHeader3.argtypes = [c_void_p, c_char_p, c_ulong, *[POINTER(c_int)] * 4]
    library.tjDecompress2.argtypes = [c_void_p, c_char_p, c_ulong, c_void_p, *[c_int] * 5]
    return library


@cache
def _decompressor() -> _Decompressor:
    return _Decompressor()
