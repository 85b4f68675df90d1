"""Advice from the state of a data set: a symptom, and the setting that helps."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator

from cp2fast import recipes
from cp2fast.config import MIN_IMAGES_FOR_BATCH_BACKGROUNDS, PretrainSettings
from cp2fast.cores import available_cores
from cp2fast.data.sources.bad_images import allowed_bad
from cp2fast.data.survey import as_typed
from cp2fast.inspection.check import Check
from cp2fast.inspection.data_health import DataHealth
from cp2fast.wording import counted

_FEW_IMAGES = 2_000
_SMALL_RECIPE = (300, 20_000)
"""Numbers of images for which the recipe ``small`` is meant, smallest and largest."""
_SMALL_BATCH = 8
_SLOW_READ = 5.0
"""Milliseconds per file; a local solid-state disk takes a tenth of this."""
_NOT_SLOW = {"JPEG", "numpy", "unknown"}
"""Formats that are quickly decoded, or not at all."""
_MUCH_LARGER = 1.5
_ROUND_TO = 32


def advise(health: DataHealth, settings: PretrainSettings) -> Iterator[Check]:
    """The checks of a data set for which there is advice."""
    yield from _broken(health, settings)
    yield from _values(health, settings)
    if health.short_side is None or health.long_side is None:
        return
    yield from _count(health, settings)
    yield from _size(health, settings, health.short_side.median, health.long_side.median)
    yield from _format(health)
    yield from _disk(health)
    yield from _workers(settings)


def side_needed(size: int, crop_area: float) -> int:
    """The short side at which the smallest crop just fills a view; more pixels are wasted.

    The smallest crop has ``crop_area`` of the photo's area, so its sides scale by the square root.
    """
    return math.ceil(size / math.sqrt(crop_area))


def _broken(health: DataHealth, settings: PretrainSettings) -> Iterator[Check]:
    if not health.bad:
        return
    fraction, share = settings.data.max_bad_fraction, len(health.bad) / health.sampled
    too_many = share * health.images > allowed_bad(health.images, fraction)
    yield Check(
        "broken files",
        "broken" if too_many else "advice",
        f"{len(health.bad)} of {health.sampled} sampled cannot be used ({share:.1%}; a run stops "
        f"above data.max_bad_fraction={fraction:g}, never for one alone)",
        "fix or remove the files below; others take their place in a run",
        needed=too_many,
    )


def _values(health: DataHealth, settings: PretrainSettings) -> Iterator[Check]:
    found, data = health.proposal, settings.data
    if found.bands is not None and data.bands is None:
        yield _advice(
            "bands",
            f"the files do not say which bands are the picture ({found.unnamed})",
            f"data.bands={as_typed(found.bands)} ({found.reason}); cp2fast preview shows them",
        )
    if not isinstance(found.range, str) and data.range == "auto":
        share = f"{found.wide:.0%}" if found.wide else "some"
        yield _advice(
            "range",
            f"{share} of the images have more than 8 bits: a run maps the 1st to the 99th "
            "percentile of a sample",
            f"data.range={as_typed(found.range)} sets that range",
        )


def _advice(name: str, detail: str, fix: str) -> Check:
    return Check(name, "advice", detail, fix)


def _count(health: DataHealth, settings: PretrainSettings) -> Iterator[Check]:
    small = _small(health, settings)
    tuning = "model.init=FILE starts from pretrained weights (Quick Tuning)"
    if health.images < settings.data.batch_size:
        yield Check(
            "few images",
            "broken",
            f"{counted(health.images, 'image')} cannot fill one batch of "
            f"{settings.data.batch_size}",
            f"data.batch_size={batch_of_few(health.images)}, at most {health.images}"
            if health.images >= MIN_IMAGES_FOR_BATCH_BACKGROUNDS
            else f"add images: {MIN_IMAGES_FOR_BATCH_BACKGROUNDS} are the fewest",
            needed=True,
        )
    elif health.images < _FEW_IMAGES:
        yield _advice(
            "few images",
            f"{health.images:,} images are few to learn from",
            f"{small}; or {tuning}" if small else tuning,
        )
    elif small:
        yield _advice(
            "recipe",
            f"{health.images:,} images are few for a queue of {settings.model.queue:,} keys",
            small,
        )


def _small(health: DataHealth, settings: PretrainSettings) -> str:
    """The command with the recipe for few photos; empty if it does not fit or is already used."""
    low, high = _SMALL_RECIPE
    queue = recipes.load(PretrainSettings, "small", []).model.queue
    if not low <= health.images <= high or settings.model.queue <= queue:
        return ""
    return shlex.join(["cp2fast", "pretrain", "small", f"data.root={health.root}"])


def batch_of_few(images: int) -> int:
    """Batch size for four steps per epoch, but large enough for batch norm."""
    return max(images // 4, min(images, _SMALL_BATCH))


def _size(
    health: DataHealth, settings: PretrainSettings, short: float, long: float
) -> Iterator[Check]:
    size = settings.model.size
    needed = side_needed(size, settings.augment.crop_area[0])
    if short > _MUCH_LARGER * needed:
        side = _ROUND_TO * math.ceil(needed * long / short / _ROUND_TO)
        yield _advice(
            "large images",
            f"half have a short side above {short:,.0f} px; views of {size} px need {needed} px",
            f"{_pack(health)} --max-side {side}, then data.root=packed.tar",
        )
    elif short < size / 2:
        yield _advice(
            "small images",
            f"half have a short side below {short:,.0f} px, enlarged to views of {size} px",
            f"model.size={max(64, _ROUND_TO * round(short / _ROUND_TO))}",
        )


def _format(health: DataHealth) -> Iterator[Check]:
    slow = {name: count for name, count in health.formats.items() if name not in _NOT_SLOW}
    share = sum(slow.values()) / health.sampled
    if share > 0.5:
        yield _advice(
            "format",
            f"{share:.0%} are not JPEG but mostly {next(iter(slow))}, which decodes several times "
            "slower",
            f"{_pack(health)}, then data.root=packed.tar",
        )


def _pack(health: DataHealth) -> str:
    """The command that packs this data set."""
    range_, bands = health.proposal.range, health.proposal.bands
    values = "" if isinstance(range_, str) else f" --range {as_typed(range_)[1:-1]}"
    chosen = "" if bands is None else f" --bands {as_typed(bands)[1:-1]}"
    return f"cp2fast pack {shlex.quote(health.root)} packed.tar{values}{chosen}"


def _disk(health: DataHealth) -> Iterator[Check]:
    if health.read_milliseconds > _SLOW_READ:
        yield _advice(
            "slow disk",
            f"a file takes {health.read_milliseconds:.1f} ms to read",
            f"{_pack(health)} on a local disk, then data.root=packed.tar",
        )


def _workers(settings: PretrainSettings) -> Iterator[Check]:
    cores, workers = available_cores(), settings.data.workers
    if workers is not None and not cores / 2 < max(1, workers) <= 2 * cores:
        detail = f"data.workers={workers}, and there are {cores} cores"
        yield _advice("workers", detail, f"data.workers={cores}")
