"""How a folder of images is: formats, sizes, broken files, and how fast it is read and decoded."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from cp2fast import philox
from cp2fast.config import DataSettings, PretrainSettings, Root
from cp2fast.data.decode import BadImage, decode_image, read_image
from cp2fast.data.disk_cache import DiskCache
from cp2fast.data.image_set import ImageSet
from cp2fast.data.images import list_images, windows
from cp2fast.data.kinds import kind_of
from cp2fast.data.levels import Levels
from cp2fast.data.order import plan
from cp2fast.data.roots import shown
from cp2fast.data.source import Choice, choose_source
from cp2fast.files import open_plain
from cp2fast.inspection.decoding import opened
from cp2fast.inspection.proposal import Proposal, propose

_MOST_SAMPLED = 512
_SAMPLE_SECONDS, _SOURCE_SECONDS = 4.0, 4.0
_EPOCHS = 20
"""Of few images: enough to time a source."""
_BATCH = 32
_WITHOUT_END = 1_000_000


@dataclass(frozen=True)
class Quantiles:
    """The spread of a quantity over the sampled images: the 5th, 50th and 95th percentile."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Quantiles:
        """Of at least one value."""
        return Quantiles(*(float(value) for value in np.percentile(values, (5, 50, 95))))


@dataclass(frozen=True)
class Sampled:
    """One image that was looked at.

    Attributes:
        name: its file.
        size: size of the file, bytes.
        format: such as JPEG, or ``unknown``.
        height: 0 if it could not be decoded; as ``width``.
        width: see ``height``.
        read_seconds: to read the file.
        decode_seconds: to decode it on one thread.
        problem: why it cannot be used; None if it can.
    """

    name: str
    size: int
    format: str
    height: int
    width: int
    read_seconds: float
    decode_seconds: float
    problem: str | None


@dataclass(frozen=True)
class DataHealth:
    """What a sample of a data set shows; rates are of this machine.

    Attributes:
        root: the folder.
        images: how many it holds.
        skipped: of the files that are none, how many have each suffix.
        sampled: how many were looked at, taken at random.
        formats: how many of each format.
        short_side: pixels.
        long_side: pixels.
        file_bytes: size of the files.
        bad: file and reason of each that cannot be used.
        read_milliseconds: a file, from the disk where the system lets go of what it has cached.
        file_system: type, as the system names it; empty where it does not say.
        decode_per_second: images decoded by one thread.
        source: what decodes in a run with these settings.
        images_per_second: what it yields with ``data.workers`` workers; None where the data set
            fills no two batches.
        epoch_seconds: at that rate.
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
    file_system: str
    decode_per_second: float | None
    source: str
    images_per_second: float | None
    epoch_seconds: float | None
    proposal: Proposal = field(default_factory=Proposal)

    def share(self, kind: str) -> float:
        """The share of a format among the sampled images."""
        return self.formats.get(kind, 0) / self.sampled


def examine(settings: PretrainSettings, root: Root) -> DataHealth:
    """Look at up to 512 images of ``root`` for a few seconds, then time the source.

    Raises:
        UserError: ``root`` holds no images, or the source asked for does not work here.
    """
    images = list_images(root, disk=DiskCache.of(settings.data))
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
        skipped=dict(images.skipped),
        sampled=len(sampled),
        formats=dict(Counter(one.format for one in sampled).most_common()),
        short_side=Quantiles.of([short for short, _ in sides]) if good else None,
        long_side=Quantiles.of([long for _, long in sides]) if good else None,
        file_bytes=Quantiles.of([one.size for one in good]) if good else None,
        bad=[(one.name, one.problem) for one in sampled if one.problem is not None],
        read_milliseconds=1000 * float(np.median([one.read_seconds for one in sampled])),
        file_system=file_system(root),
        decode_per_second=len(good) / sum(one.decode_seconds for one in good) if good else None,
        source=source.name,
        images_per_second=rate,
        epoch_seconds=len(images) / rate if rate else None,
        proposal=proposal,
    )


def _sample(images: ImageSet, data: DataSettings) -> list[Sampled]:
    """Images at random, as many as a few seconds allow."""
    order = philox.permutation(0, philox.Stream.ORDER, 0, len(images))[:_MOST_SAMPLED]
    deadline = time.perf_counter() + _SAMPLE_SECONDS
    sampled: list[Sampled] = []
    for number in order.tolist():
        sampled.append(_look_at(images, number, data))
        if time.perf_counter() > deadline:
            break
    return sampled


def _look_at(images: ImageSet, number: int, data: DataSettings) -> Sampled:
    if images.kind == "folder":
        _forget_cached(images.name(number))
    began = time.perf_counter()
    encoded, height, width, problem = b"", 0, 0, None
    try:
        encoded = read_image(images, number)
        read = time.perf_counter()
        levels = Levels.of(data.range, data.bands)
        height, width = decode_image(encoded, data.max_pixels, levels=levels).shape[:2]
    except BadImage as bad:
        read, problem = time.perf_counter(), str(bad)
    return Sampled(
        name=images.name(number),
        size=len(encoded),
        format=_format(encoded),
        height=height,
        width=width,
        read_seconds=read - began,
        decode_seconds=time.perf_counter() - read,
        problem=problem,
    )


def _format(encoded: bytes) -> str:
    """By how the file begins: JPEG, PNG, WEBP and so on."""
    _, _, kind = kind_of(encoded).partition(" ")
    name, is_image, _ = kind.partition(" image")
    return name.upper() if is_image else "unknown"


def _forget_cached(path: str) -> None:
    """Let the system drop the file from its cache, so that reading it shows the disk's speed."""
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError), open_plain(path) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _source_rate(
    settings: PretrainSettings, images: ImageSet, source: Choice, device: torch.device
) -> float:
    """Images a second that the source yields, its start left out."""
    data = settings.data
    size = min(_BATCH, data.batch_size, len(images))
    steps = plan(
        seed=settings.train.seed,
        count=len(images),
        batch_size=size,
        start=0,
        stop=_WITHOUT_END,
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


def file_system(root: Root) -> str:
    """The type of the file system that holds ``root``: that of the longest mount point above."""
    mounts = Path("/proc/mounts")
    if not mounts.exists() or not isinstance(root, Path):
        return ""
    place, found = root.resolve(), (0, "")
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        _, mount, kind, *_ = line.split()
        mount = mount.replace("\\040", " ")
        if place.is_relative_to(mount):
            found = max(found, (len(mount), kind))
    return found[1]
