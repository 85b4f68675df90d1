"""The pixels of a view between the resize and the output."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.jit import inline


class Planes(NamedTuple):
    """Red, green and blue planes of a view, ``[3, size, pitch]``.

    Attributes:
        flat: float32, one register longer than the planes, because the last load may span it.
        size: rows, which is S for a whole view.
        pitch: floats from one row to the next: S, padded to whole registers.
    """

    flat: NDArray[np.float32]
    size: int
    pitch: int


@inline
def channels(planes: Planes, y: int) -> tuple[int, int, int]:
    """Where row ``y`` begins in ``flat``, for red, green and blue."""
    at, plane = y * planes.pitch, planes.size * planes.pitch
    return at, at + plane, at + 2 * plane
