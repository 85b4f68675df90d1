"""The CPU kernel of copy-paste: numba, one thread, only the pixels that are seen.

A view passes through four stages, each a loop over rows that the compiler turns into SIMD:
resize (vertically, then horizontally, into three planes), jitter and grey in place, blur, and
normalise while storing channels-last. A foreground is made inside its rectangle and a background
outside, plus the blur's halo. Contrast needs the mean of the whole view: where what comes before
it is linear the mean is a weighted sum of source pixels, otherwise the whole view is made first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from cp2fast.copypaste import pixel
from cp2fast.copypaste.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION
from cp2fast.copypaste.pixel import IMAGENET_MEAN, IMAGENET_STD

FLOAT32, BFLOAT16, FLOAT16 = range(3)
"""How the composed images are stored."""

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]

_ZERO, _HALF, _ONE, _WHITE = (np.float32(x) for x in (0, 0.5, 1, 255))
_MEAN_RED, _MEAN_GREEN, _MEAN_BLUE = IMAGENET_MEAN
_STD_RED, _STD_GREEN, _STD_BLUE = IMAGENET_STD
# An index that cannot be negative spares numba's check for it in the innermost loop.
_SMALLEST_FLOAT16_INVERSE = np.float32(2**24)
_1, _2, _3 = (np.uint64(x) for x in (1, 2, 3))


class Workspace(NamedTuple):
    """One thread's scratch, for views of side S from crops of at most H x W; float32.

    Attributes:
        planes: ``[3, S, S]``, the view before its blur.
        line: ``[3 W]``, one row between the vertical and the horizontal resize, interleaved.
        totals: ``[max(H, W)]``, what each source row or column weighs in the whole view.
        weights_y: ``[S * taps]`` at least, the vertical filter.
        weights_x: the horizontal filter, mirrored if the view is.
        start_y: int64 ``[S]``, the first source row of each output row.
        start_x: int64 ``[S]``, the first source column of each output column.
        gaussian: ``[radius + 1]``, half of the blur's taps.
        padded: ``[S + 2 radius]``, a row between the vertical and the horizontal blur.
        blurred: ``[3, 1, S]``, a row after both.
        normal: ``[3 S]``, a row before it is rounded to 16 bits.
        cover: int64 ``[4, 4]``, rectangles of the view: top, left, bottom, right.
    """

    planes: _Floats
    line: _Floats
    totals: _Floats
    weights_y: _Floats
    weights_x: _Floats
    start_y: _Integers
    start_x: _Integers
    gaussian: _Floats
    padded: _Floats
    blurred: _Floats
    normal: _Floats
    cover: _Integers

    @staticmethod
    def allocate(size: int, crop: int, radius: int) -> Workspace:
        """Scratch for outputs of side ``size``, crops of sides up to ``crop``, and a blur."""
        most_taps = -(-2 * max(crop, size) // size) + 1
        floats, integers = np.float32, np.int64
        return Workspace(
            planes=np.empty((3, size, size), floats),
            line=np.empty(3 * crop, floats),
            totals=np.empty(crop, floats),
            weights_y=np.empty(size * most_taps, floats),
            weights_x=np.empty(size * most_taps, floats),
            start_y=np.empty(size, integers),
            start_x=np.empty(size, integers),
            gaussian=np.empty(radius + 1, floats),
            padded=np.empty(size + 2 * radius, floats),
            blurred=np.empty((3, 1, size), floats),
            normal=np.empty(3 * size, floats),
            cover=np.empty((4, 4), integers),
        )


def _jit(function: Callable[..., Any], cache: bool = False) -> Any:
    return numba.njit(function, nogil=True, error_model="numpy", fastmath={"contract"}, cache=cache)


def _jit_cached(function: Callable[..., Any]) -> Any:
    """Compile once an installation, or once a process where no folder can be written."""
    try:
        return _jit(function, cache=True)
    except RuntimeError:
        return _jit(function)


_triangle, _gaussian, _luma = _jit(pixel.triangle), _jit(pixel.gaussian), _jit(pixel.luma)
_blend, _wrap_turns = _jit(pixel.blend), _jit(pixel.wrap_turns)
_shift_hue, _normalise = _jit(pixel.shift_hue), _jit(pixel.normalise)


@_jit
def _resize_filter(
    length: int, mirror: bool, gain: np.float32, start: _Integers, weights: _Floats
) -> _Floats:
    """The antialiased bilinear filter from ``length`` pixels to S, its weights summing to gain.

    Fills ``start`` and returns the weights ``[S, taps]``. As many taps everywhere: near the far
    edge they begin earlier, and those outside the triangle are 0.
    """
    size = len(start)
    scale = np.float32(length) / np.float32(size)
    support = max(scale, _ONE)
    taps = 0
    for o in range(size):
        centre = (np.float32(o) + _HALF) * scale
        start[o] = max(int(centre - support + _HALF), 0)
        taps = max(taps, min(int(centre + support + _HALF), length) - start[o])
    filter_ = weights[: size * taps].reshape(size, taps)
    for x in range(size):
        o = size - 1 - x if mirror else x
        centre = (np.float32(o) + _HALF) * scale
        start[x] = min(max(int(centre - support + _HALF), 0), length - taps)
        total = _ZERO
        for k in range(taps):
            weight = _triangle((np.float32(start[x] + k) + _HALF - centre) / support)
            filter_[x, k] = weight
            total += weight
        for k in range(taps):
            filter_[x, k] *= gain / total
    return filter_


@_jit
def _gaussian_filter(sigma: np.float32, taps: _Floats) -> _Floats:
    """Half of the blur's taps, the centre first; the whole sums to 1."""
    radius = int(np.ceil(3.0 * sigma))
    half = taps[: radius + 1]
    total = _ZERO
    for i in range(radius + 1):
        half[i] = _gaussian(np.float32(i), sigma)
        total += half[i] if i == 0 else half[i] + half[i]
    for i in range(radius + 1):
        half[i] /= total
    return half


@_jit
def _cover(
    rectangle: _Integers, foreground: bool, halo: int, size: int, cover: _Integers
) -> _Integers:
    """Disjoint rectangles over the foreground, or over the rest, and ``halo`` pixels around."""
    top, left, height, width = rectangle
    bottom, right = top + height, left + width
    if foreground:
        cover[0] = (
            max(top - halo, 0),
            max(left - halo, 0),
            min(bottom + halo, size),
            min(right + halo, size),
        )
        return cover[:1]
    top, left, bottom, right = top + halo, left + halo, bottom - halo, right - halo
    if top >= bottom or left >= right:
        cover[0] = (0, 0, size, size)
        return cover[:1]
    cover[0] = (0, 0, top, size)
    cover[1] = (top, 0, bottom, left)
    cover[2] = (top, right, bottom, size)
    cover[3] = (bottom, 0, size, size)
    return cover


@_jit
def _row(planes: _Floats, y: int, left: int, right: int) -> tuple[_Floats, _Floats, _Floats]:
    return planes[0, y, left:right], planes[1, y, left:right], planes[2, y, left:right]


@_jit
def _resize(
    pixels: NDArray[np.uint8],
    origin: int,
    pitch: int,
    filter_y: _Floats,
    filter_x: _Floats,
    rectangle: _Integers,
    w: Workspace,
) -> None:
    """Make one rectangle of the planes; the crop begins at ``origin``, its rows ``pitch`` apart."""
    top, left, bottom, right = rectangle
    if left >= right:
        return
    begin = min(w.start_x[left], w.start_x[right - 1])
    end = max(w.start_x[left], w.start_x[right - 1]) + filter_x.shape[1]
    line = w.line[: 3 * (end - begin)]
    for y in range(top, bottom):
        for k in range(filter_y.shape[1]):
            weight = filter_y[y, k]
            at = origin + (w.start_y[y] + k) * pitch + 3 * begin
            row = pixels[at : at + len(line)]
            if k == 0:
                for i in range(len(line)):
                    line[i] = weight * np.float32(row[i])
            else:
                for i in range(len(line)):
                    line[i] += weight * np.float32(row[i])
        red, green, blue = w.planes[0, y], w.planes[1, y], w.planes[2, y]
        for x in range(left, right):
            r, g, b = _ZERO, _ZERO, _ZERO
            i = np.uint64(3 * (w.start_x[x] - begin))
            for k in range(filter_x.shape[1]):
                weight = filter_x[x, k]
                r += weight * line[i]
                g += weight * line[i + _1]
                b += weight * line[i + _2]
                i += _3
            red[x], green[x], blue[x] = r, g, b


@_jit
def _crop_luma(
    pixels: NDArray[np.uint8],
    origin: int,
    pitch: int,
    filter_y: _Floats,
    filter_x: _Floats,
    height: int,
    width: int,
    w: Workspace,
) -> np.float32:
    """Mean luma of the whole resized view, from the crop: both are linear."""
    line = w.line[: 3 * width]
    line[:] = _ZERO
    totals = _filter_totals(filter_y, w.start_y, w.totals[:height])
    for y in range(height):
        weight = totals[y]
        row = pixels[origin + y * pitch : origin + y * pitch + len(line)]
        for i in range(len(line)):
            line[i] += weight * np.float32(row[i])
    totals = _filter_totals(filter_x, w.start_x, w.totals[:width])
    mean = 0.0
    for x in range(width):
        mean += totals[x] * _luma(line[3 * x], line[3 * x + 1], line[3 * x + 2])
    return np.float32(mean / (len(w.start_y) * len(w.start_x)))


@_jit
def _filter_totals(filter_: _Floats, start: _Integers, totals: _Floats) -> _Floats:
    totals[:] = _ZERO
    for o in range(len(start)):
        for k in range(filter_.shape[1]):
            totals[start[o] + k] += filter_[o, k]
    return totals


@_jit
def _view_luma(w: Workspace) -> np.float32:
    """Mean luma of the planes."""
    size = len(w.start_x)
    columns = w.normal[:size]
    columns[:] = _ZERO
    for y in range(size):
        red, green, blue = w.planes[0, y], w.planes[1, y], w.planes[2, y]
        for x in range(size):
            columns[x] += _luma(red[x], green[x], blue[x])
    mean = 0.0
    for x in range(size):
        mean += columns[x]
    return np.float32(mean / (size * size))


@_jit
def _jitter(
    planes: _Floats, rectangle: _Integers, order: _Integers, factor: _Floats, mean: np.float32
) -> None:
    """Apply the operations of ``order``; ``mean`` is contrast's."""
    top, left, bottom, right = rectangle
    for y in range(top, bottom):
        red, green, blue = _row(planes, y, left, right)
        for operation in order:
            f = factor[operation]
            if operation == HUE:
                turns = _wrap_turns(f)
                for x in range(len(red)):
                    red[x], green[x], blue[x] = _shift_hue(red[x], green[x], blue[x], turns)
            elif operation == SATURATION:
                for x in range(len(red)):
                    grey = _luma(red[x], green[x], blue[x])
                    red[x] = _blend(grey, red[x], f)
                    green[x] = _blend(grey, green[x], f)
                    blue[x] = _blend(grey, blue[x], f)
            else:
                base = mean if operation == CONTRAST else _ZERO
                for x in range(len(red)):
                    red[x] = _blend(base, red[x], f)
                    green[x] = _blend(base, green[x], f)
                    blue[x] = _blend(base, blue[x], f)


@_jit
def _make_grey(planes: _Floats, rectangle: _Integers) -> None:
    top, left, bottom, right = rectangle
    for y in range(top, bottom):
        red, green, blue = _row(planes, y, left, right)
        for x in range(len(red)):
            grey = _luma(red[x], green[x], blue[x])
            red[x], green[x], blue[x] = grey, grey, grey


@_jit
def _blur_row(
    plane: _Floats, y: int, left: int, right: int, half: _Floats, padded: _Floats, out: _Floats
) -> None:
    """One row of the blurred plane from column ``left`` to ``right``, edge pixels repeated."""
    size, radius = len(plane), len(half) - 1
    begin, end = max(left - radius, 0), min(right + radius, size)
    before, after = begin - (left - radius), end - (left - radius)
    vertical = padded[before:after]
    row = plane[y, begin:end]
    for x in range(len(vertical)):
        vertical[x] = half[0] * row[x]
    for i in range(1, radius + 1):
        above, below = plane[max(y - i, 0), begin:end], plane[min(y + i, size - 1), begin:end]
        weight = half[i]
        for x in range(len(vertical)):
            vertical[x] += weight * (above[x] + below[x])
    padded[:before] = padded[before]
    padded[after : right - left + 2 * radius] = padded[after - 1]
    row = padded[radius : radius + right - left]
    for x in range(len(row)):
        out[x] = half[0] * row[x]
    for i in range(1, radius + 1):
        before_, after_ = padded[radius - i :], padded[radius + i :]
        weight = half[i]
        for x in range(len(row)):
            out[x] += weight * (before_[x] + after_[x])


@_jit
def _store(
    red: _Floats, green: _Floats, blue: _Floats, kind: int, normal: _Floats, out: NDArray[np.uint8]
) -> None:
    """Normalise one row, interleave it, and round it to the kind of the output."""
    if kind == FLOAT32:
        row = out.view(np.float32)
    else:
        row = normal[: 3 * len(red)]
    for x in range(len(red)):
        row[3 * x] = _normalise(red[x], _MEAN_RED, _STD_RED)
        row[3 * x + 1] = _normalise(green[x], _MEAN_GREEN, _STD_GREEN)
        row[3 * x + 2] = _normalise(blue[x], _MEAN_BLUE, _STD_BLUE)
    if kind == FLOAT32:
        return
    bits, half = row.view(np.uint32), out.view(np.uint16)
    if kind == BFLOAT16:
        for i in range(len(bits)):
            half[i] = _bfloat16_bits(bits[i])
    else:
        for i in range(len(bits)):
            half[i] = _float16_bits(row[i], bits[i])


@_jit
def _bfloat16_bits(bits: np.uint32) -> int:
    """A float32's bits rounded to bfloat16, ties to even."""
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


@_jit
def _float16_bits(value: np.float32, bits: np.uint32) -> int:
    """A float32 below 65,504 rounded to float16, ties to even; ``bits`` are its own."""
    magnitude = bits & 0x7FFFFFFF
    normal = (magnitude - (112 << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13
    subnormal = int(np.rint(abs(value) * _SMALLEST_FLOAT16_INVERSE))
    return ((bits >> 16) & 0x8000) | (normal if magnitude >= 113 << 23 else subnormal)


@_jit
def _linear_gain(before: _Integers, factor: _Floats) -> np.float32:
    """What ``before`` multiplies the mean luma by, or -1 if it may clip or turn hues.

    Neither brightness nor saturation clips while its factor is in [0, 1], and saturation
    keeps each pixel's luma.
    """
    gain = _ONE
    for operation in before:
        f = factor[operation]
        if operation == HUE or f < _ZERO or f > _ONE:
            return -_ONE
        if operation == BRIGHTNESS:
            gain *= f
    return gain


@_jit
def _make_view(
    pixels: NDArray[np.uint8],
    offset: int,
    width: int,
    box: _Integers,
    flip: bool,
    jitter: bool,
    factor: _Floats,
    order: _Integers,
    grey: bool,
    sigma: np.float32,
    paste: _Integers,
    foreground: bool,
    kind: int,
    out: NDArray[np.uint8],
    w: Workspace,
) -> None:
    """Make what is seen of one view and store it in ``out``, the bytes of ``[S, S, 3]``."""
    size = len(w.start_x)
    top, left, crop_height, crop_width = box
    pitch = 3 * width
    origin = offset + top * pitch + 3 * left
    filter_y = _resize_filter(crop_height, False, _ONE / _WHITE, w.start_y, w.weights_y)
    filter_x = _resize_filter(crop_width, flip, _ONE, w.start_x, w.weights_x)
    half = _gaussian_filter(sigma, w.gaussian)
    radius = len(half) - 1

    first, rest = order[:0], order[:0]
    mean = _ZERO
    whole = False
    if jitter:
        contrast = 0
        while order[contrast] != CONTRAST:
            contrast += 1
        gain = _linear_gain(order[:contrast], factor)
        whole = gain < _ZERO
        if whole:
            first, rest = order[:contrast], order[contrast:]
        else:
            first = order
            mean = gain * _crop_luma(
                pixels, origin, pitch, filter_y, filter_x, crop_height, crop_width, w
            )
    for rectangle in _cover(paste, foreground, size if whole else radius, size, w.cover):
        _resize(pixels, origin, pitch, filter_y, filter_x, rectangle, w)
        _jitter(w.planes, rectangle, first, factor, mean)
    if whole:
        mean = _view_luma(w)
    for rectangle in _cover(paste, foreground, radius, size, w.cover):
        _jitter(w.planes, rectangle, rest, factor, mean)
        if grey:
            _make_grey(w.planes, rectangle)
    pixel_bytes = len(out) // (size * size)
    for rectangle in _cover(paste, foreground, 0, size, w.cover):
        top, left, bottom, right = rectangle
        for y in range(top, bottom):
            if radius > 0:
                for c in range(3):
                    _blur_row(w.planes[c], y, left, right, half, w.padded, w.blurred[c, 0])
                red, green, blue = _row(w.blurred, 0, 0, right - left)
            else:
                red, green, blue = _row(w.planes, y, left, right)
            begin, end = (y * size + left) * pixel_bytes, (y * size + right) * pixel_bytes
            _store(red, green, blue, kind, w.normal, out[begin:end])


@_jit_cached
def compose(
    pixels: NDArray[np.uint8],
    offset: _Integers,
    width: NDArray[np.int32],
    source: NDArray[np.int32],
    box: NDArray[np.int32],
    flip: NDArray[np.bool_],
    jitter: NDArray[np.bool_],
    factor: _Floats,
    order: NDArray[np.int32],
    grey: NDArray[np.bool_],
    sigma: _Floats,
    paste: NDArray[np.int32],
    pair: int,
    first: int,
    last: int,
    kind: int,
    out: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    w: Workspace,
) -> None:
    """Compose the queries (pair 0) or keys (pair 1) of samples ``first`` to ``last``.

    Args:
        pixels: with ``offset`` and ``width``, as in ``RaggedBatch``.
        offset: as in ``RaggedBatch``.
        width: as in ``RaggedBatch``.
        source: with the eight that follow, as in ``Parameters``.
        box: as in ``Parameters``.
        flip: as in ``Parameters``.
        jitter: as in ``Parameters``.
        factor: as in ``Parameters``.
        order: as in ``Parameters``.
        grey: as in ``Parameters``.
        sigma: as in ``Parameters``.
        paste: as in ``Parameters``.
        pair: 0 or 1.
        first: first sample.
        last: one past the last sample.
        kind: FLOAT32, BFLOAT16 or FLOAT16.
        out: the bytes of ``[B, S, S, 3]``, as uint8 ``[B, N]``.
        mask: ``[B, S, S]``.
        w: scratch that nobody else uses meanwhile.
    """
    for b in range(first, last):
        for foreground, v in ((True, pair), (False, pair + 2)):
            image = source[b, v]
            _make_view(
                pixels,
                offset[image],
                np.int64(width[image]),
                box[b, v].astype(np.int64),
                flip[b, v],
                jitter[b, v],
                factor[b, v],
                order[b, v],
                grey[b, v],
                sigma[b, v],
                paste[b, pair],
                foreground,
                kind,
                out[b],
                w,
            )
        top, left, height, width_ = paste[b, pair]
        mask[b] = False
        mask[b, top : top + height, left : left + width_] = True
