"""The scratch memory of one thread of the CPU kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu.lanes import WIDE
from cp2fast.copypaste.cpu.load_store import LINE
from cp2fast.copypaste.cpu.output import padded_length
from cp2fast.copypaste.cpu.resize import most_taps

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]


class Workspace(NamedTuple):
    """One thread's scratch memory for views of side S."""

    planes: _Floats  # [3, S, pitch], the view before blurring; rows are padded to whole registers
    flat: _Floats  # the same memory plus padding for the last register
    line: _Floats  # a row of the crop, plus one float of padding for the last pixel's register
    totals: _Floats  # total weight of each row or column of the crop
    weights_y: _Floats  # of the vertical filter
    start_y: _Integers  # [S]
    weights_x: _Floats  # of the horizontal filter
    start_x: _Integers  # S padded to a multiple of four
    wide: _Floats  # the horizontal weights as arranged by ``spread``
    half: _Floats  # the blur's filter, from its centre to one side
    reach: NDArray[np.uint64]  # [2, radius + 1], offsets of the rows above and below a blurred one
    padded: _Floats  # three channels of a row between the two passes of the blur
    luma: _Floats  # [pitch], sums of each column
    row: _Floats
    short: NDArray[np.uint16]
    cover: _Integers  # [4, 4], rectangles of the view: top, left, bottom, right
    order: _Integers  # [4], the jitter operations
    hues: _Floats  # [3], ``hues`` of a ``Colour``

    @staticmethod
    def allocate(size: int, crop: int, radius: int) -> Workspace:
        """Allocate for crops with sides up to ``crop`` and blurs up to ``radius``."""

        def floats(count: int) -> _Floats:
            """Aligned memory, so that no register load spans two cache lines."""
            memory = np.empty(count + WIDE, np.float32)
            first = -memory.ctypes.data % LINE // 4
            return memory[first : first + count]

        def integers(*shape: int) -> _Integers:
            return np.empty(shape, np.int64)

        taps = most_taps(crop, size)
        pitch = -(-size // WIDE) * WIDE
        flat = floats(3 * size * pitch + WIDE)
        return Workspace(
            planes=flat[: 3 * size * pitch].reshape(3, size, pitch),
            flat=flat,
            line=floats(3 * crop + 1),
            totals=floats(crop),
            weights_y=floats(size * taps),
            start_y=integers(size),
            weights_x=floats(size * taps),
            start_x=integers(pitch),
            wide=floats(pitch * taps * 4),
            half=floats(radius + 1),
            reach=np.empty((2, radius + 1), np.uint64),
            padded=floats(3 * padded_length(pitch, radius)),
            luma=floats(pitch),
            row=floats(3 * pitch),
            short=np.empty(3 * pitch, np.uint16),
            cover=integers(4, 4),
            order=integers(4),
            hues=floats(3),
        )
