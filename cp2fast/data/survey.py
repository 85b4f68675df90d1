"""Determine the range for ``data.range=auto`` from a fixed sample of a data set's values.

    image numbers in a fixed random order -> the first 64 that may hold more than 8 bits, or bands
        -> values of the chosen bands, without missing data -> 1st and 99th percentile

The sample and the result depend on the data set alone, not on the seed, processes or threads.
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
from cp2fast.data.decoding import png
from cp2fast.data.decoding.decode import BadImage, decode_raster
from cp2fast.data.decoding.formats import WIDE_SUFFIXES
from cp2fast.data.decoding.levels import missing_of, select_bands
from cp2fast.data.decoding.raster import Raster
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.errors import UserError
from cp2fast.philox import Stream
from cp2fast.wording import counted

SAMPLE = 64
"""Number of images examined."""
_FEW = 8
"""The same if the range is known and only the bands are checked."""
PERCENTILES = (1, 99)
_MOST_NAMES = 20_000
"""The most names searched for them, to avoid going through a million photos for a few TIFFs."""
_VALUES = 1 << 14
"""Values per image, evenly spaced, so that all images have equal weight."""
_HEAD = 64
_DIGITS = 6


class Survey(NamedTuple):
    """The result for a sample."""

    sampled: int
    """Number of images that could be read."""
    wide: int
    """How many of them have more than 8 bits."""
    range: Range | None
    """The 1st and 99th percentile of their values; None if there are none."""
    problem: str | None
    """Why most images cannot be shown as configured, with the first such image, if so."""


def as_typed(numbers: Sequence[float]) -> str:
    """A range or bands in the syntax of ``KEY=VALUE``: all digits, no blanks."""
    return f"[{','.join(f'{number:.10g}' for number in numbers)}]"


def survey(
    images: ImageSet, bands: Bands | None, max_pixels: int, threads: int, sample: int = SAMPLE
) -> Survey:
    """Examine at most ``sample`` images; those of more than ``max_pixels`` are skipped."""

    def look(number: int) -> NDArray[Any] | str | None:
        try:
            return _look_at(images, number, bands, max_pixels)
        except BadImage:
            return None  # The run will replace it too.

    numbers = list(islice(candidates(images), sample))
    with ThreadPoolExecutor(max(1, threads), "cp2fast-survey") as pool:
        looks = dict(zip(numbers, pool.map(look, numbers), strict=True))
    values = [one for one in looks.values() if isinstance(one, np.ndarray) and len(one)]
    problems = [f"{images.name(n)}: {one}" for n, one in looks.items() if isinstance(one, str)]
    sampled = sum(one is not None for one in looks.values())
    return Survey(
        sampled=sampled,
        wide=len(values),
        range=_percentiles(values) if values else None,
        problem=problems[0] if 2 * len(problems) > sampled else None,
    )


def candidates(images: ImageSet) -> Iterator[int]:
    """The numbers of images that may have more than 8 bits or bands, in a fixed random order."""
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
    """Determine ``data.range`` of a run: if it is ``auto``, the values found for LOW and HIGH.

    Returns:
        The setting (still ``auto`` if no values need mapping), and how it was found, if it was.

    Raises:
        UserError: most images have several bands and none was chosen, or they lack the chosen ones.
    """
    found = survey(images, bands, max_pixels, threads, SAMPLE if range_ == "auto" else _FEW)
    if found.problem is not None:
        raise UserError(found.problem)
    if range_ != "auto" or found.range is None:
        return range_, ""
    return found.range, (
        f"range: the 1st to the 99th percentile of {counted(found.wide, 'image')} becomes 0 to "
        f"255 (data.range={as_typed(found.range)})"
    )


def sample_values(raster: Raster) -> NDArray[Any]:
    """Some values ``[N]`` of the bands that are shown, evenly spaced, without missing data."""
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


def _look_at(
    images: ImageSet, number: int, bands: Bands | None, max_pixels: int
) -> NDArray[Any] | str:
    """Values of the image, none if it has only 8 bits; or why it cannot be shown."""
    header = png.read_header(images.read_raw(number, _HEAD))
    if header is not None and header.bits <= 8:
        return np.empty(0)
    raster = decode_raster(images.read(number), max_pixels)
    try:
        raster = select_bands(raster, bands)
    except BadImage as bad:
        return str(bad)
    return sample_values(raster) if raster.is_wide else np.empty(0)


def _percentiles(values: Sequence[NDArray[Any]]) -> Range | None:
    whole = np.concatenate([some.astype(np.float64) for some in values])
    low, high = np.percentile(whole, PERCENTILES).tolist()
    if all(some.dtype.kind in "ui" for some in values):
        low, high = float(math.floor(low)), float(math.ceil(high))
    else:
        low, high = (float(f"{value:.{_DIGITS}g}") for value in (low, high))
    return (low, high) if low < high else None
