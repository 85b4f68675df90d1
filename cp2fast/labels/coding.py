"""Convert stored mask values to labels with one lookup table per data set.

A label is the number of a class, from 0; 255 is always ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.labels.masks import COLOURED, IGNORED, Kind, read_stored
from cp2fast.labels.painted import Annotations, paint

_NOT_KNOWN = -1
_NEAR = 48.0
"""Largest RGB distance at which a colour gets its nearest class; black to white is 441.

JPEG changes flat areas by a few levels and mixes colours where two areas meet. A colour farther
from every class is such a mixture; it is ignored, because its nearest class may be a third one."""
_NEAR_VALUE = 24
"""The same for grey masks."""


Oddity = Literal["", "jpeg", "numbers"]
"""What is unusual about a mask: a JPEG, whose values are only approximate, or a mask of numbers
among masks of colours."""


class Labels(NamedTuple):
    """The labels of one image."""

    labels: NDArray[np.uint8]
    """``[H, W]``, below the number of classes, or 255."""
    unknown: dict[int, int]
    """Pixel counts of stored numbers that belong to no class; their label is 255."""
    guessed: int
    """Number of pixels that got the nearest class."""
    oddity: Oddity
    """Possible reason for unknown numbers."""


@dataclass(frozen=True)
class Coding:
    """How the masks of a data set are read."""

    kind: Kind
    known: Mapping[int, int] = field(hash=False)
    """Label by stored number; may be ``IGNORED``."""
    unknown: Literal["refuse", "ignore"] = "refuse"
    """How to treat other stored numbers."""
    nearest: bool = False
    """Whether to try the nearest class first."""

    def read(self, mask: Path | Annotations) -> Labels:
        """The labels of a mask. Raises UserError if it cannot be read."""
        if isinstance(mask, Annotations):
            return self.label(paint(mask))
        stored = read_stored(mask, self.kind)
        other = self.kind == "colours" and stored.mode not in (*COLOURED, "P")
        oddity: Oddity = "jpeg" if stored.is_lossy else "numbers" if other else ""
        return self.label(stored.pixels, oddity, stored.void)

    def label(
        self,
        stored_HW: NDArray[Any],
        oddity: Oddity = "",
        void_HW: NDArray[np.bool_] | bool = False,
    ) -> Labels:
        """The labels of stored numbers; where ``void_HW``, those of no class are ignored."""
        labels_HW = self._table[stored_HW]
        beyond_HW = labels_HW == _NOT_KNOWN
        if not beyond_HW.any():
            return Labels(labels_HW.astype(np.uint8), {}, 0, oddity)
        ignored_HW = beyond_HW & void_HW
        labels_HW[ignored_HW] = IGNORED
        beyond_HW ^= ignored_HW
        strange, places, counts = np.unique(
            stored_HW[beyond_HW], return_inverse=True, return_counts=True
        )
        taken = self._nearest(strange) if self.nearest else np.full(len(strange), IGNORED)
        labels_HW[beyond_HW] = taken[places]
        far = {} if self.nearest else dict(zip(strange.tolist(), counts.tolist(), strict=True))
        guessed = int(counts.sum()) if self.nearest else 0
        return Labels(labels_HW.astype(np.uint8), far, guessed, oddity)

    def _nearest(self, strange_N: NDArray[Any]) -> NDArray[np.int64]:
        """The label of the nearest known number for each; 255 if none is near enough."""
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
        """The label of every possible stored number: 32 MiB for colours, otherwise 128 KiB."""
        table = np.full(1 << (24 if self.kind == "colours" else 16), _NOT_KNOWN, np.int16)
        for stored, label in self.known.items():
            table[stored] = label
        return table


def channels(colours_N: NDArray[Any]) -> NDArray[np.float64]:
    """Red, green and blue, 0 to 255, of packed colours: ``[N, 3]``."""
    wide = np.asarray(colours_N, np.int64)
    return np.stack([wide >> 16, (wide >> 8) & 255, wide & 255], axis=-1).astype(np.float64)
