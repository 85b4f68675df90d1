"""The last steps of a view on the GPU: blur, normalise, round, and store channels-last."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from cp2fast.copypaste import pixel
from cp2fast.copypaste.cpu_output import BFLOAT16, FLOAT32
from cp2fast.copypaste.cuda_jit import WARP, WARPS, device, float_bits, sync_warp
from cp2fast.copypaste.cuda_tile import HALO, SIDE, Rectangle
from cp2fast.copypaste.pixel import IMAGENET_MEAN, IMAGENET_STD

TAPS = 2 * HALO + 1

_ZERO = np.float32(0)
# An index that cannot be negative spares numba's check for it in the innermost loop.
_NEXT, _BELOW = np.uint64(1), np.uint64(SIDE)
_MEAN_RED, _MEAN_GREEN, _MEAN_BLUE = IMAGENET_MEAN
_STD_RED, _STD_GREEN, _STD_BLUE = IMAGENET_STD

_gaussian, _normalise = device(pixel.gaussian), device(pixel.normalise)
_bfloat16_bits, _float16_bits = device(pixel.bfloat16_bits), device(pixel.float16_bits)


class Output(NamedTuple):
    """Composed images, channels-last, in ``single`` or ``half``, and their masks.

    Attributes:
        single: float32 ``[B, S, S, 3]``, for FLOAT32; otherwise anything.
        half: uint16 ``[B, S, S, 3]``, the bits of BFLOAT16 or FLOAT16; otherwise anything.
        mask: uint8 ``[B, S, S]``.
    """

    single: Any
    half: Any
    mask: Any


@device
def prepare_blur(taps: Any, radius: int, sigma: np.float32) -> None:
    """The Gaussian over ``radius`` pixels to each side, in shared float32 ``[TAPS]``."""
    if radius == 0:
        return
    for i in range(cuda.threadIdx.y * WARP + cuda.threadIdx.x, 2 * radius + 1, WARP * WARPS):
        total, k = _ZERO, -radius
        while k <= radius:
            total += _gaussian(np.float32(k), sigma)
            k += 1
        taps[np.uint32(i)] = _gaussian(np.float32(i - radius), sigma) / total


@device
def blur_down(planes: Any, taps: Any, radius: int, y: int, width: int, lines: Any) -> None:
    """Rows ``y`` to ``y + 2 radius`` of the planes, blurred to one, into the warp's line."""
    warp, x = np.uint32(cuda.threadIdx.y), np.int64(cuda.threadIdx.x)
    while x < width:
        red, green, blue = _ZERO, _ZERO, _ZERO
        i, last, at = np.uint64(0), np.uint64(2 * radius), np.uint64(y * SIDE + x)
        while i <= last:
            red += taps[i] * planes[0, at]
            green += taps[i] * planes[1, at]
            blue += taps[i] * planes[2, at]
            i, at = i + _NEXT, at + _BELOW
        column = np.uint32(x)
        lines[warp, 0, column], lines[warp, 1, column], lines[warp, 2, column] = red, green, blue
        x += WARP


@device
def blur_across(taps: Any, radius: int, x: int, lines: Any) -> tuple[Any, Any, Any]:
    """Pixels ``x`` to ``x + 2 radius`` of the warp's line, blurred to one."""
    warp = np.uint32(cuda.threadIdx.y)
    red, green, blue = _ZERO, _ZERO, _ZERO
    i, last, at = np.uint64(0), np.uint64(2 * radius), np.uint64(x)
    while i <= last:
        red += taps[i] * lines[warp, 0, at]
        green += taps[i] * lines[warp, 1, at]
        blue += taps[i] * lines[warp, 2, at]
        i, at = i + _NEXT, at + _NEXT
    return red, green, blue


@device
def finish(
    planes: Any,
    taps: Any,
    radius: int,
    lines: Any,
    seen: Rectangle,
    paste: Rectangle,
    foreground: bool,
    b: int,
    size: int,
    kind: int,
    output: Output,
) -> None:
    """Blur, normalise and store what is seen of one view.

    Args:
        planes: shared float32 ``[3, AREA]``: ``seen`` and ``radius`` pixels around it.
        taps: of ``prepare_blur``.
        radius: 0 is no blur.
        lines: scratch, float32 ``[WARPS, 3, CHUNK]``, a row for each warp.
        seen: rectangle of the output in which the view is seen.
        paste: the foreground rectangle.
        foreground: whether the view is seen inside ``paste``, else outside.
        b: which output.
        size: side S of an output.
        kind: FLOAT32, BFLOAT16 or FLOAT16.
        output: written.
    """
    width = seen.right - seen.left + 2 * radius
    for group in range(seen.top, seen.bottom, WARPS):
        y = group + cuda.threadIdx.y
        if radius > 0:
            if y < seen.bottom:
                blur_down(planes, taps, radius, y - seen.top, width, lines)
            sync_warp()
        if y < seen.bottom:
            in_rows = paste.top <= y and y < paste.bottom
            for x in range(seen.left + cuda.threadIdx.x, seen.right, WARP):
                if (in_rows and paste.left <= x and x < paste.right) == foreground:
                    if radius > 0:
                        red, green, blue = blur_across(taps, radius, x - seen.left, lines)
                    else:
                        at = np.uint32((y - seen.top) * SIDE + x - seen.left)
                        red, green, blue = planes[0, at], planes[1, at], planes[2, at]
                    _store(output, (b * size + y) * size + x, red, green, blue, kind)
                    output.mask[(b * size + y) * size + x] = foreground
        sync_warp()


@device
def _store(
    output: Output, at: int, red: np.float32, green: np.float32, blue: np.float32, kind: int
) -> None:
    red = _normalise(red, _MEAN_RED, _STD_RED)
    green = _normalise(green, _MEAN_GREEN, _STD_GREEN)
    blue = _normalise(blue, _MEAN_BLUE, _STD_BLUE)
    i = 3 * at
    if kind == FLOAT32:
        single = output.single
        single[i], single[i + 1], single[i + 2] = red, green, blue
    elif kind == BFLOAT16:
        half = output.half
        half[i] = _bfloat16_bits(float_bits(red))
        half[i + 1] = _bfloat16_bits(float_bits(green))
        half[i + 2] = _bfloat16_bits(float_bits(blue))
    else:
        half = output.half
        half[i] = _float16_bits(red, float_bits(red))
        half[i + 1] = _float16_bits(green, float_bits(green))
        half[i + 2] = _float16_bits(blue, float_bits(blue))
