"""A view on the CPU: three planes, float32 ``[3, S, S]``, made and changed row by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.jit import jit

_Floats = NDArray[np.float32]


@jit
def row_of(planes: _Floats, y: int, left: int, right: int) -> tuple[_Floats, _Floats, _Floats]:
    """Part of a row: red, green and blue."""
    return planes[0, y, left:right], planes[1, y, left:right], planes[2, y, left:right]
