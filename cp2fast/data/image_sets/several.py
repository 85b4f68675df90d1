"""Several data sets as one: their images one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.image_sets.beton import JPEG
from cp2fast.data.image_sets.image_set import HERE, OWN_FILE, ImageSet
from cp2fast.data.image_sets.names import Names


def joined(parts: Sequence[ImageSet]) -> ImageSet:
    """All images of the parts, concatenated."""
    if len(parts) == 1:
        return parts[0]
    parts = [_placed(part) for part in parts]
    begins = np.cumsum([0, *(len(part.shards) for part in parts)])
    places = np.concatenate([part.places for part in parts])
    places[:, 0] += np.repeat(begins[:-1], [len(part) for part in parts])
    kinds = {part.kind for part in parts}
    return ImageSet(
        kinds.pop() if len(kinds) == 1 else "mixed",
        Names.of(chain.from_iterable(part.names for part in parts)),
        tuple(shard for part in parts for shard in part.shards),
        places,
        _tables([(part.pixels, len(part)) for part in parts], (0, 0, JPEG)),
        sum((part.skipped for part in parts), Counter[str]()),
        _tables([(part.stored, len(part.shards)) for part in parts], (HERE, 0)),
        _tables([(part.versions, len(part)) for part in parts], 0),
        next((part.disk for part in parts if part.disk), None),
    )


def _placed(part: ImageSet) -> ImageSet:
    """The same set with ``places``, which a local folder does not have."""
    if len(part.places) or not len(part):
        return part
    places = np.full((len(part), 3), (0, OWN_FILE, -1), np.int64)
    return replace(part, kind="mixed", shards=(part.base,), places=places, base="")


def _tables(parts: Sequence[tuple[NDArray[np.int64], int]], otherwise: Any) -> NDArray[np.int64]:
    """Concatenate the tables of all parts; parts without one get rows of ``otherwise``."""
    if not any(len(table) for table, _ in parts):
        return parts[0][0]
    full = [t if len(t) else np.full((rows, *t.shape[1:]), otherwise) for t, rows in parts]
    return np.concatenate(full)
