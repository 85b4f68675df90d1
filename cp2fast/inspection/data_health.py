"""The state of a folder of images: formats, sizes, broken files, reading and decoding speed."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from cp2fast import philox
from cp2fast.config import DataSettings, PretrainSettings, Root
from cp2fast.data.decoding.decode import BadImage, decode_image
from cp2fast.data.decoding.kinds import kind_of
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.roots import shown
from cp2fast.data.order import plan
from cp2fast.data.sources.choice import Choice, choose_source
from cp2fast.data.windows import windows
from cp2fast.files import open_plain
from cp2fast.inspection.decoding import opened
from cp2fast.inspection.proposal import Proposal, propose

_MOST_SAMPLED = 512
_SAMPLE_SECONDS, _SOURCE_SECONDS = 4.0, 4.0
_EPOCHS = 20
"""Epochs for data sets of few images, enough to time a source."""
_BATCH = 32


@dataclass(frozen=True)
class Quantiles:
    """The 5th, 50th and 95th percentile of a quantity over the sampled images."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Quantiles:
        """Quantiles of at least one value."""
        return Quantiles(*(float(value) for value in np.percentile(values, (5, 50, 95))))


class _Sampled(NamedTuple):
    """One sampled image; ``problem`` says why it could not be decoded, its sides are 0 then."""

    name: str
    file_bytes: int
    format: str
    height: int
    width: int
    read_seconds: float
    decode_seconds: float
    problem: str | None


@dataclass(frozen=True)
class DataHealth:
    """The state of a data set, found from a sample; rates are measured on this machine.

    Attributes:
        images: number of images.
        skipped: number of files that are not images, by suffix.
        sampled: number of images in the random sample, which what follows describes.
        formats: number of images by format.
        short_side: in pixels, as ``long_side``; None if no image can be decoded.
        bad: file and reason of each image that cannot be used.
        read_milliseconds: time to read a file, from the disk if the system's cache can be dropped.
        decode_per_second: images per second decoded by one thread.
        source: source that decodes in a run with these settings.
        images_per_second: rate of the source with ``data.workers`` workers; None if no image can be
            decoded.
        proposal: settings that suit the values of the images.
    """

    root: str
    images: int
    skipped: dict[str, int]
    sampled: int
    formats: dict[str, int]
    short_side: Quantiles | None
    long_side: Quantiles | None
    file_bytes: Quantiles | None
    bad: list[tuple[str, str]]
    read_milliseconds: float
    decode_per_second: float | None
    source: str
    images_per_second: float | None
    epoch_seconds: float | None
    proposal: Proposal = field(default_factory=Proposal)


def examine(settings: PretrainSettings, root: Root, images: ImageSet) -> DataHealth:
    """Examine up to 512 images, which are those of ``root``, then time the source.

    Raises:
        UserError: the chosen source does not work here.
    """
    proposal = propose(images, settings)
    settings = proposal.applied(settings)
    sampled = _sample(images, settings.data)
    good = [one for one in sampled if one.problem is None]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = choose_source(settings.data, images, device)
    rate = _source_rate(settings, images, source, device) if good else None
    sides = [sorted((one.height, one.width)) for one in good]
    return DataHealth(
        root=shown(root),
        images=len(images),
        skipped=dict(images.skipped.most_common()),
        sampled=len(sampled),
        formats=dict(Counter(one.format for one in sampled).most_common()),
        short_side=Quantiles.of([short for short, _ in sides]) if good else None,
        long_side=Quantiles.of([long for _, long in sides]) if good else None,
        file_bytes=Quantiles.of([one.file_bytes for one in good]) if good else None,
        bad=[(one.name, one.problem) for one in sampled if one.problem is not None],
        read_milliseconds=1000 * float(np.median([one.read_seconds for one in sampled])),
        decode_per_second=len(good) / sum(one.decode_seconds for one in good) if good else None,
        source=source.name,
        images_per_second=rate,
        epoch_seconds=len(images) / rate if rate else None,
        proposal=proposal,
    )


def _sample(images: ImageSet, data: DataSettings) -> list[_Sampled]:
    """A random sample of images, as many as a few seconds allow."""
    order = philox.permutation(0, philox.Stream.ORDER, 0, len(images))[:_MOST_SAMPLED]
    deadline = time.perf_counter() + _SAMPLE_SECONDS
    sampled: list[_Sampled] = []
    for number in order.tolist():
        sampled.append(_look_at(images, number, data))
        if time.perf_counter() > deadline:
            break
    return sampled


def _look_at(images: ImageSet, number: int, data: DataSettings) -> _Sampled:
    if images.kind == "folder":
        _forget_cached(images.name(number))
    began = time.perf_counter()
    encoded, height, width, problem = b"", 0, 0, None
    try:
        encoded = images.read(number)
        read = time.perf_counter()
        levels = Levels.of(data.range, data.bands)
        height, width = decode_image(encoded, data.max_pixels, levels=levels).shape[:2]
    except BadImage as bad:
        read, problem = time.perf_counter(), str(bad)
    return _Sampled(
        name=images.name(number),
        file_bytes=len(encoded),
        format=_format(encoded),
        height=height,
        width=width,
        read_seconds=read - began,
        decode_seconds=time.perf_counter() - read,
        problem=problem,
    )


def _format(encoded: bytes) -> str:
    """JPEG, PNG, WEBP and so on or numpy, from the first bytes."""
    _, _, kind = kind_of(encoded).partition(" ")
    if kind == "numpy array":
        return "numpy"
    name, is_image, _ = kind.partition(" image")
    return name.upper() if is_image else "unknown"


def _forget_cached(path: str) -> None:
    """Drop the file from the system's cache, so that reading it measures the disk."""
    with suppress(OSError, AttributeError), open_plain(path) as file:  # not on every system
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _source_rate(
    settings: PretrainSettings, images: ImageSet, source: Choice, device: torch.device
) -> float:
    """Images per second that the source yields, without its startup."""
    data = settings.data
    size = min(_BATCH, data.batch_size, len(images))
    steps = plan(
        seed=settings.train.seed,
        count=len(images),
        batch_size=size,
        order=data.order,
        windows=windows(data, images),
    )
    with opened(source, data, images, steps, settings.train.seed, device) as (batches, _):
        next(batches)
        began, seconds, count = time.perf_counter(), 0.0, 0
        while seconds < _SOURCE_SECONDS and count < _EPOCHS * len(images):
            count += len(next(batches))
            seconds = time.perf_counter() - began
    return count / seconds
