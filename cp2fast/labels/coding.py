"""From what masks store to labels: one lookup table, made once for a data set.

A label is a class's number, from 0; 255 is ignored everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.labels.masks import COLOURED, Kind, colour_name, read_stored
from cp2fast.labels.painted import Annotations, paint

IGNORED = 255
"""The label of pixels that count neither in the loss nor in the evaluation."""

Unknown = Literal["refuse", "ignore"]

_NOT_KNOWN = -1
_NEAR = 48.0
"""Distance in RGB, of 441 from black to white, up to which a colour is taken for its nearest class.

JPEG moves flat areas by a few levels and mixes colours where two areas meet: what is farther from
every class is such a mixture, which may well be nearest to a third class, and is ignored."""
_NEAR_VALUE = 24
"""Likewise of grey masks."""


Oddity = Literal["", "jpeg", "numbers"]
"""Of a mask: a JPEG, whose values are only nearly those that were saved, or a mask of numbers among
masks of colours."""


class Labels(NamedTuple):
    """The labels of one image.

    Attributes:
        labels: uint8 ``[H, W]``, below the number of classes or 255.
        unknown: pixels by stored number of what stands for no class; they are 255.
        guessed: pixels that were given the nearest class.
        oddity: what may explain the unknown.
    """

    labels: NDArray[np.uint8]
    unknown: dict[int, int]
    guessed: int
    oddity: Oddity


@dataclass(frozen=True)
class Coding:
    """How the masks of a data set are read.

    Attributes:
        kind: kind of the masks.
        known: label by stored number; ``IGNORED`` is one of them.
        unknown: what becomes of other stored numbers.
        nearest: whether they are given the nearest class first.
    """

    kind: Kind
    known: Mapping[int, int] = field(hash=False)
    unknown: Unknown = "refuse"
    nearest: bool = False

    @staticmethod
    def plain(num_classes: int, unknown: Unknown) -> Coding:
        """Of masks whose values are the labels, as VOC's."""
        known = {label: label for label in range(num_classes)} | {IGNORED: IGNORED}
        return Coding("values", known, unknown)

    def read(self, mask: Path | Annotations) -> Labels:
        """The labels of a mask.

        Raises:
            UserError: it cannot be read.
        """
        if isinstance(mask, Annotations):
            return self.label(paint(mask))
        stored = read_stored(mask, self.kind)
        other = self.kind == "colours" and stored.mode not in (*COLOURED, "P")
        return self.label(stored.pixels, "jpeg" if stored.is_lossy else "numbers" if other else "")

    def label(self, stored_HW: NDArray[Any], oddity: Oddity = "") -> Labels:
        """The labels of stored numbers."""
        labels_HW = self._table[stored_HW]
        beyond_HW = labels_HW == _NOT_KNOWN
        if not beyond_HW.any():
            return Labels(labels_HW.astype(np.uint8), {}, 0, oddity)
        strange, places, counts = np.unique(
            stored_HW[beyond_HW], return_inverse=True, return_counts=True
        )
        taken = self._nearest(strange) if self.nearest else np.full(len(strange), IGNORED)
        labels_HW[beyond_HW] = taken[places]
        far = {} if self.nearest else dict(zip(strange.tolist(), counts.tolist(), strict=True))
        guessed = int(counts.sum()) if self.nearest else 0
        return Labels(labels_HW.astype(np.uint8), far, guessed, oddity)

    def _nearest(self, strange_N: NDArray[Any]) -> NDArray[np.int64]:
        """The label of the nearest known number of each, 255 where none is near."""
        known = np.array(list(self.known))
        labels = np.array(list(self.known.values()))
        if self.kind == "colours":
            between = channels(strange_N)[:, None] - channels(known)[None]
            distance, limit = np.sqrt((between**2).sum(axis=-1)), _NEAR
        else:
            distance = np.abs(strange_N[:, None].astype(float) - known[None])
            limit = _NEAR_VALUE
        nearest = distance.argmin(axis=1)
        near = distance[np.arange(len(strange_N)), nearest] <= limit
        return np.where(near, labels[nearest], IGNORED)

    @cached_property
    def _table(self) -> NDArray[np.int16]:
        """The label of every number that can be stored: 32 MiB for colours, else 128 KiB."""
        table = np.full(1 << (24 if self.kind == "colours" else 16), _NOT_KNOWN, np.int16)
        for stored, label in self.known.items():
            table[stored] = label
        return table

    def name(self, stored: int) -> str:
        """A stored number as users know it."""
        return colour_name(stored) if self.kind == "colours" else str(stored)


def channels(colours_N: NDArray[Any]) -> NDArray[np.float64]:
    """Red, green and blue, 0 to 255, of colours as numbers: ``[N, 3]``."""
    wide = np.asarray(colours_N, np.int64)
    return np.stack([wide >> 16, (wide >> 8) & 255, wide & 255], axis=-1).astype(np.float64)
