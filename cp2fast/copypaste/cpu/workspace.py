"""The scratch memory of one thread of the CPU kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste.cpu.resize import most_taps
from cp2fast.copypaste.cpu.simd import LINE, WIDE

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]


class Workspace(NamedTuple):
    """One thread's scratch, for views of side S; float32 unless said otherwise.

    Attributes:
        planes: ``[3, S, pitch]``, the view before its blur; a row has room for whole registers.
        flat: ``[3 S pitch + WIDE]``, the same memory and what the last register takes along.
        line: a row of the crop, interleaved, between the vertical and the horizontal resize, and
            one float that the last pixel's register takes along.
        totals: what each row or column of the crop weighs.
        weights_y: the vertical filter; and start_y, int64 ``[S]``.
        start_y: see weights_y.
        weights_x: the horizontal filter; and start_x, int64, S up to a multiple of four.
        start_x: see weights_x.
        wide: the horizontal weights as ``spread`` lays them out.
        half: the centre and one side of the blur's filter.
        reach: uint64 ``[2, radius + 1]``, where the rows above and below a blurred one begin.
        padded: ``[pitch + 2 radius + 2 WIDE]``, a row between the two passes of the blur.
        blurred: ``[3 pitch + WIDE]``, a row after both.
        luma: ``[pitch]``, sums of each column.
        row: ``[3 pitch]``, a row before it is rounded to 16 bits.
        bits: uint32, the same memory.
        short: uint16 ``[3 pitch]``, the row after that.
        cover: int64 ``[4, 4]``, rectangles of the view: top, left, bottom, right.
        order: int64 ``[4]``, the jitter operations.
    """

    planes: _Floats
    flat: _Floats
    line: _Floats
    totals: _Floats
    weights_y: _Floats
    start_y: _Integers
    weights_x: _Floats
    start_x: _Integers
    wide: _Floats
    half: _Floats
    reach: NDArray[np.uint64]
    padded: _Floats
    blurred: _Floats
    luma: _Floats
    row: _Floats
    bits: NDArray[np.uint32]
    short: NDArray[np.uint16]
    cover: _Integers
    order: _Integers

    @staticmethod
    def allocate(size: int, crop: int, radius: int) -> Workspace:
        """For crops of sides up to ``crop`` and blurs up to ``radius``."""

        def floats(count: int) -> _Floats:
            """Aligned, so that no register is loaded from two lines of the cache."""
            memory = np.empty(count + WIDE, np.float32)
            first = -memory.ctypes.data % LINE // 4
            return memory[first : first + count]

        def integers(*shape: int) -> _Integers:
            return np.empty(shape, np.int64)

        taps = most_taps(crop, size)
        pitch = -(-size // WIDE) * WIDE
        flat, row = floats(3 * size * pitch + WIDE), floats(3 * pitch)
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
            padded=floats(pitch + 2 * radius + 2 * WIDE),
            blurred=floats(3 * pitch + WIDE),
            luma=floats(pitch),
            row=row,
            bits=row.view(np.uint32),
            short=np.empty(3 * pitch, np.uint16),
            cover=integers(4, 4),
            order=integers(4),
        )
