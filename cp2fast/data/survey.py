"""What values a data set holds: a look at a fixed sample, from which ``data.range=auto`` follows.

    image numbers, permuted once for all -> the first 64 that may hold more than 8 bits, or bands
        -> values of the chosen bands, without those that are no data -> 1st and 99th percentile

The sample and the result are a function of the data set alone: not of seed, processes or threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast import philox
from cp2fast.config import Bands, Range, RangeSetting
from cp2fast.data import png
from cp2fast.data.decode import BadImage, decode_raster, read_image
from cp2fast.data.formats import WIDE_SUFFIXES
from cp2fast.data.image_set import ImageSet
from cp2fast.data.levels import missing_of, select_bands
from cp2fast.data.raster import Raster
from cp2fast.errors import UserError
from cp2fast.philox import Stream
from cp2fast.wording import counted

SAMPLE = 64
"""Images that are looked at."""
_FEW = 8
"""Likewise where the range is known, and only the bands are not."""
PERCENTILES = (1, 99)
_MOST_NAMES = 20_000
"""Names among which they are sought: a million photos are not gone through for a few TIFFs."""
_VALUES = 1 << 14
"""Of an image, evenly spread, so that each counts alike."""
_HEAD = 64
_DIGITS = 6


class Survey(NamedTuple):
    """What a sample showed.

    Attributes:
        sampled: images that could be read.
        wide: how many of them have more than 8 bits.
        range: the 1st and the 99th percentile of those; None where there are none.
        problem: why most images cannot be shown as asked for, and the first of them; None if they
            can.
    """

    sampled: int
    wide: int
    range: Range | None
    problem: str | None

    def in_words(self) -> str:
        """How the range was found, for a message."""
        if self.range is None:
            return ""
        return (
            f"range: the 1st to the 99th percentile of {counted(self.wide, 'image')} becomes 0 to "
            f"255 (data.range={as_typed(self.range)})"
        )


def as_typed(numbers: Sequence[float]) -> str:
    """A range or bands as ``KEY=VALUE`` takes them: all digits, no blanks."""
    return f"[{','.join(f'{number:.10g}' for number in numbers)}]"


class _Look(NamedTuple):
    """Of one image."""

    values: NDArray[np.float64] | None
    integers: bool
    problem: str | None


def survey(
    images: ImageSet, bands: Bands | None, max_pixels: int, threads: int, sample: int = SAMPLE
) -> Survey:
    """Look at the sample of a data set.

    Args:
        images: the data set.
        bands: ``data.bands``.
        max_pixels: larger images are left out.
        threads: that read and decode.
        sample: most images that are looked at.
    """

    def look(number: int) -> _Look | None:
        try:
            return _look_at(images, number, bands, max_pixels)
        except BadImage:
            return None  # It will be replaced in the run, too.

    numbers = list(islice(candidates(images), sample))
    with ThreadPoolExecutor(max(1, threads), "cp2fast-survey") as pool:
        found = [
            (number, one)
            for number, one in zip(numbers, pool.map(look, numbers), strict=True)
            if one
        ]
    problems = [f"{images.name(n)}: {one.problem}" for n, one in found if one.problem]
    values = [one.values for _, one in found if one.values is not None and len(one.values)]
    integers = all(one.integers for _, one in found)
    return Survey(
        sampled=len(found),
        wide=len(values),
        range=_percentiles(np.concatenate(values), integers) if values else None,
        problem=problems[0] if 2 * len(problems) > len(found) else None,
    )


def candidates(images: ImageSet) -> Iterator[int]:
    """The numbers of images that may have more than 8 bits or bands, in a fixed order."""
    if images.kind == "beton":
        return
    suffixes = tuple(map(os.fsencode, WIDE_SUFFIXES))
    order = philox.permutation(0, Stream.SURVEY, 0, len(images))[:_MOST_NAMES]
    for number in order.tolist():
        if images.names[number].lower().endswith(suffixes):
            yield number


def find_range(
    images: ImageSet, range_: RangeSetting, bands: Bands | None, max_pixels: int, threads: int
) -> tuple[RangeSetting, str]:
    """``data.range`` of a run: where it is ``auto``, LOW and HIGH as they are found.

    Returns:
        The setting, ``auto`` still where there is nothing to be mapped, and a line that states a
        range that was found.

    Raises:
        UserError: most images have bands of which none, or none of those there, were chosen.
    """
    found = survey(images, bands, max_pixels, threads, SAMPLE if range_ == "auto" else _FEW)
    if found.problem is not None:
        raise UserError(found.problem)
    if range_ != "auto" or found.range is None:
        return range_, ""
    return found.range, found.in_words()


def sample_values(raster: Raster) -> NDArray[Any]:
    """Some of the values of the bands that are shown, evenly spread, without those of no data.

    Returns:
        ``[N]``.
    """
    height, width, bands = raster.values.shape
    step = max(1, math.isqrt(height * width * bands // _VALUES))
    thin = raster._replace(
        values=raster.values[::step, ::step],
        missing=None if raster.missing is None else raster.missing[::step, ::step],
    )
    missing = missing_of(thin)
    if missing is None:
        return thin.values.ravel()
    return thin.values[~np.broadcast_to(missing, thin.values.shape)]


def _look_at(images: ImageSet, number: int, bands: Bands | None, max_pixels: int) -> _Look:
    if _is_narrow_png(images, number):
        return _Look(None, integers=True, problem=None)
    raster = decode_raster(read_image(images, number), max_pixels)
    try:
        raster = select_bands(raster, bands)
    except BadImage as bad:
        return _Look(None, integers=True, problem=str(bad))
    if not raster.is_wide:
        return _Look(None, integers=True, problem=None)
    integers = raster.values.dtype.kind in "ui"
    return _Look(sample_values(raster).astype(np.float64), integers, None)


def _is_narrow_png(images: ImageSet, number: int) -> bool:
    """Whether a look at a file's head is enough."""
    try:
        header = png.read_header(images.read_head(number, _HEAD))
    except OSError:
        return False
    return header is not None and header.bits <= 8


def _percentiles(values: NDArray[np.float64], integers: bool) -> Range | None:
    low, high = np.percentile(values, PERCENTILES).tolist()
    if integers:
        low, high = float(math.floor(low)), float(math.ceil(high))
    else:
        low, high = (float(f"{value:.{_DIGITS}g}") for value in (low, high))
    return (low, high) if low < high else None
