"""What all sources have in common: how they decode, and which image takes a bad one's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.config import DataSettings
from cp2fast.data.decoding.decode import BadImage, decode_image
from cp2fast.data.decoding.levels import BY_TYPE, Levels
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.order import substitute
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.errors import UserError

MAX_SUBSTITUTES = 100
"""Substitutes tried for an unreadable image before giving up."""

Content = TypeVar("Content")


@dataclass(frozen=True)
class DecodeSettings:
    """How images become pixels, whichever source decodes them; see ``decode_image``."""

    seed: int
    """Seed of the run, for the substitutes of bad images."""
    max_pixels: int
    max_side: int | None = None
    levels: Levels = BY_TYPE

    @staticmethod
    def of(seed: int, data: DataSettings) -> DecodeSettings:
        """Those of a run with this seed."""
        levels = Levels.of(data.range, data.bands)
        return DecodeSettings(seed, data.max_pixels, data.max_side, levels)

    def decode(self, encoded: bytes) -> Tensor:
        """``decode_image`` with these settings."""
        return decode_image(encoded, self.max_pixels, self.max_side, self.levels)


@dataclass(frozen=True)
class Failure:
    """An unusable image and the reason."""

    index: int
    reason: str


@dataclass(frozen=True)
class Loaded(Generic[Content]):
    """The image at one position of a batch."""

    planned: int
    """Number of the image that was planned."""
    index: int
    """Number of the image that was used."""
    content: Content | None
    """None if no substitute could be read either."""
    failures: list[Failure]
    """Images tried before it, in order."""


@dataclass(frozen=True)
class Decoded:
    """A batch, and the images tried for it."""

    batch: RaggedBatch | None
    """None if a position could not be filled."""
    tried: int
    failures: list[Failure]

    @staticmethod
    def of(loaded: Sequence[Loaded[Content]], batch: RaggedBatch | None) -> Decoded:
        """``batch`` with the counts from its positions."""
        failures = [failure for place in loaded for failure in place.failures]
        filled = sum(place.content is not None for place in loaded)
        return Decoded(batch, filled + len(failures), failures)


def read_or_replace(
    planned: int, read: Callable[[int], Content], seed: int, count: int
) -> Loaded[Content]:
    """Read an image by its number, or the first readable one among its substitutes.

    ``read`` raises BadImage; ``seed`` is the run's, and the data set has ``count`` images.
    """
    failures: list[Failure] = []
    index = planned
    for attempt in range(MAX_SUBSTITUTES + 1):
        try:
            return Loaded(planned, index, read(index), failures)
        except BadImage as bad:
            failures.append(Failure(index, str(bad)))
        if count == 1:
            break
        index = substitute(seed, planned, attempt, count)
    return Loaded(planned, planned, None, failures)


def deliver(decoded: Decoded, images: ImageSet, bad: BadImages) -> RaggedBatch:
    """The batch, after its bad images were counted.

    Raises:
        UserError: too many bad images, or a position of the batch could not be filled.
    """
    failed = [(images.name(failure.index), failure.reason) for failure in decoded.failures]
    bad.record(decoded.tried, failed, len(images))
    if decoded.batch is None:
        last, listed = decoded.failures[-1], bad.path or "the log"
        raise UserError(
            f"found no readable image after {MAX_SUBSTITUTES} substitutes (the last was "
            f"{images.name(last.index)}: {last.reason}): fix the images listed in {listed}"
        )
    return decoded.batch
