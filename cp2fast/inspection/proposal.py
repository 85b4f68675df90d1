"""Propose settings for a data set's values, from a fixed sample: range, bands, mean, deviation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import mode

import numpy as np
from numpy.typing import NDArray

from cp2fast import philox
from cp2fast.config import Bands, Colour, Deviations, PretrainSettings, RangeSetting
from cp2fast.cores import available_cores
from cp2fast.data.decoding.decode import BadImage, decode_raster
from cp2fast.data.decoding.levels import Levels, missing_of, select_bands, to_rgb
from cp2fast.data.decoding.raster import Raster
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.survey import SAMPLE, candidates, survey
from cp2fast.philox import Stream

_BY_COUNT: dict[int, tuple[Bands, str]] = {
    2: ((1,), "the first of two, as of a radar's polarisations"),
    4: ((1, 2, 3), "red, green, blue, near infrared"),
    5: ((3, 2, 1), "blue, green, red, and more, as of MicaSense"),
    6: ((3, 2, 1), "blue, green, red, and more, as of Landsat 7"),
    7: ((4, 3, 2), "as of Landsat 8"),
    8: ((5, 3, 2), "as of WorldView-2"),
    10: ((3, 2, 1), "Sentinel-2 without its coarse bands"),
    11: ((4, 3, 2), "as of Landsat 8"),
    12: ((4, 3, 2), "Sentinel-2, level 2A"),
    13: ((4, 3, 2), "Sentinel-2, level 1C"),
}
"""Usual meaning of images with this number of bands."""
_COLOURS = (("red", "b4", "b04"), ("green", "b3", "b03"), ("blue", "b2", "b02"))
"""Names of the red, green and blue bands, including those of Sentinel-2 and Landsat 8."""
_SMALLEST_DEVIATION = 0.001
_PIXELS = 1 << 14


@dataclass(frozen=True)
class Proposal:
    """Settings that suit the values of a data set.

    Attributes:
        range: ``data.range``; ``auto`` if all images have 8 bits.
        bands: ``data.bands``; None if the files state which bands to show.
        reason: why these bands.
        unnamed: type and number of bands of most images that do not state which bands to show.
        values: number of sampled images by type and number of bands.
        wide: share of the sampled images that have more than 8 bits.
        mean: mean of red, green and blue in 0 to 1, with this range and these bands, excluding
            pixels without data; ``std`` likewise.
    """

    range: RangeSetting = "auto"
    bands: Bands | None = None
    reason: str = ""
    unnamed: str = ""
    values: dict[str, int] = field(default_factory=dict)
    wide: float = 0.0
    mean: Colour | None = None
    std: Deviations | None = None

    @property
    def is_needed(self) -> bool:
        """Whether the default settings are unsuitable."""
        return self.range != "auto" or self.bands is not None

    def applied(self, settings: PretrainSettings) -> PretrainSettings:
        """The settings with the proposal; with initial weights, mean and deviation are kept."""
        settings = settings.with_values("data", range=self.range, bands=self.bands)
        if settings.model.init is not None or self.mean is None or self.std is None:
            return settings
        return settings.with_values("augment", mean=self.mean, std=self.std)


def propose(images: ImageSet, settings: PretrainSettings) -> Proposal:
    """Examine some images and propose settings; settings already made are kept.

    Range and bands are those of up to 64 images that may have more than 8 bits; all else describes
    64 of all images.
    """
    data = settings.data
    order = philox.permutation(0, Stream.SURVEY, 0, len(images))
    sample, deep = order[:SAMPLE].tolist(), islice(candidates(images), SAMPLE)
    found = {
        number: raster
        for number in dict.fromkeys([*sample, *deep])
        if (raster := _raster(images, number, data.max_pixels)) is not None
    }
    rasters = [found[number] for number in sample if number in found]
    bands, reason, unnamed = data.bands, "", ""
    if bands is None:
        bands, reason, unnamed = propose_bands(list(found.values()))
    range_ = data.range
    if range_ == "auto":
        range_ = survey(images, bands, data.max_pixels, available_cores()).range or "auto"
    mean, std = statistics(rasters, Levels.of(range_, bands))
    return Proposal(
        range=range_,
        bands=bands,
        reason=reason,
        unnamed=unnamed,
        values=dict(Counter(map(_kind, rasters)).most_common()),
        wide=sum(one.is_wide for one in rasters) / max(1, len(rasters)),
        mean=mean,
        std=std,
    )


def propose_bands(rasters: Sequence[Raster]) -> tuple[Bands | None, str, str]:
    """The bands to use if files do not state them, the reason, and the kind of most such files."""
    unnamed = [one for one in rasters if one.colours is None]
    if not unnamed:
        return None, "", ""
    groups = [(one.values.shape[2], one.names) for one in unnamed]
    count, names = mode(groups)
    kind = _kind(unnamed[groups.index((count, names))])
    found = [_named(names, colour) for colour in _COLOURS]
    if all(found):
        return tuple(place for place in found if place), "as the file names them", kind
    bands, what = _BY_COUNT.get(count, ((1, 2, 3) if count > 2 else (1,), "the first ones"))
    return bands, f"a guess by their number: {what}", kind


def statistics(
    rasters: Sequence[Raster], levels: Levels
) -> tuple[Colour | None, Deviations | None]:
    """Mean and deviation of red, green and blue over all pixels that have data."""
    pixels = [values for one in rasters if len(values := _pixels(one, levels))]
    if not pixels:
        return None, None
    # All images have equal weight, independent of their size.
    means = np.array([values.mean(axis=0) for values in pixels])
    squares = np.array([(values**2).mean(axis=0) for values in pixels])
    mean = means.mean(axis=0)
    std = np.sqrt(np.maximum(0, squares.mean(axis=0) - mean**2)).clip(_SMALLEST_DEVIATION)
    (r, g, b), (sr, sg, sb) = mean.round(3).tolist(), std.round(3).tolist()
    return (r, g, b), (sr, sg, sb)


def _pixels(raster: Raster, levels: Levels) -> NDArray[np.float64]:
    """Pixels with data, ``[N, 3]`` in 0 to 1; empty for an image that cannot be shown."""
    try:
        raster = select_bands(raster, levels.bands)
    except BadImage:
        return np.empty((0, 3))
    shown = to_rgb(raster._replace(colours=raster.values.shape[2], has_bands=False), levels)
    missing = missing_of(raster)
    if missing is None:
        return shown.reshape(-1, 3) / 255
    return shown[~missing.all(axis=2)] / 255


def _raster(images: ImageSet, number: int, max_pixels: int) -> Raster | None:
    """An image, thinned to few pixels; None if it cannot be used."""
    try:
        return _thinned(decode_raster(images.read(number), max_pixels))
    except BadImage:
        return None


def _thinned(raster: Raster) -> Raster:
    """Keep evenly spread pixels, because the whole sample is held in memory."""
    height, width, _ = raster.values.shape
    step = max(1, int((height * width / _PIXELS) ** 0.5))
    thin = (slice(None, None, step),) * 2
    missing = raster.missing
    return raster._replace(
        values=raster.values[thin].copy(), missing=None if missing is None else missing[thin].copy()
    )


def _kind(raster: Raster) -> str:
    """Description such as "uint16, 13 bands"."""
    bands = raster.values.shape[2]
    return f"{raster.values.dtype.name}, {bands} band{'' if bands == 1 else 's'}"


def _named(names: Sequence[str], colour: Sequence[str]) -> int | None:
    """Number of the first band with such a name, alone or as a word in its name."""
    for number, name in enumerate(names, 1):
        if not set(name.lower().replace("_", " ").replace("-", " ").split()).isdisjoint(colour):
            return number
    return None
