"""Segment pictures too large for one pass: tile by tile, one band of rows at a time.

    picture.open_picture -> rows of tiles, whose margins are cut off -> bands of probabilities

Each tile is segmented as a separate picture, and memory is needed for only one band at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.config import FinetuneSettings
from cp2fast.finetune.inference import class_probabilities
from cp2fast.model.segmenter import Segmenter

MARGIN = 1 / 8
"""Share of a tile's side that is cut off next to a neighbour: edges of tiles lack context."""
_AT_ONCE = 4
"""Tiles per forward pass."""


class Band(NamedTuple):
    """A band of rows of a picture.

    Attributes:
        top: number of the first row.
        image: uint8 ``[h, W, 3]``.
        labels: uint8 ``[h, W]``.
        probabilities: float16 ``[K, h, W]``, on the host; None if not requested.
    """

    top: int
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float16] | None


class _Span(NamedTuple):
    """One side of a tile in the picture, the part of it that is kept, and that within the tile."""

    tile: slice
    kept: slice
    inside: slice


def segment_tiles(
    network: Segmenter,
    picture_HW3: NDArray[np.uint8],
    settings: FinetuneSettings,
    tile: int,
    device: torch.device,
    wants_probabilities: bool,
) -> Iterator[Band]:
    """Segment a picture and yield its bands from top to bottom.

    Args:
        network: in evaluation mode, on ``device``.
        picture_HW3: the picture, read once, band by band.
        settings: as for ``segment``; a tile is scaled to the short side of an image.
        tile: side of the tiles, in pixels of the picture.
        device: the network's.
        wants_probabilities: whether the bands include probabilities.
    """
    height, width = picture_HW3.shape[:2]
    for row in _spans(height, tile):
        columns = list(_spans(width, tile))
        band = np.array(picture_HW3[row.tile])  # a copy in memory
        image = band[row.inside]
        labels = np.empty((len(image), width), np.uint8)
        kept: NDArray[np.float16] | None = None
        for begin in range(0, len(columns), _AT_ONCE):
            group = columns[begin : begin + _AT_ONCE]
            tiles = torch.stack([torch.from_numpy(band[:, column.tile]) for column in group])
            found = class_probabilities(network, tiles.to(device), settings, side=tile)
            for column, probabilities in zip(group, found, strict=True):
                inside = probabilities[:, row.inside, column.inside]
                place = (..., column.kept)
                labels[place] = inside.argmax(dim=0).byte().cpu().numpy()
                if wants_probabilities:
                    if kept is None:
                        kept = np.empty((len(inside), *labels.shape), np.float16)
                    kept[place] = inside.half().cpu().numpy()
        yield Band(row.kept.start, image, labels, kept)


def _spans(length: int, tile: int) -> Iterator[_Span]:
    """Tiles along one side of the picture, of length ``tile`` unless the picture is shorter."""
    tile = min(tile, length)
    margin = round(tile * MARGIN)
    count = math.ceil((length - 2 * margin) / (tile - 2 * margin))
    kept = 0
    for number in range(count):
        begin = min(number * (tile - 2 * margin), length - tile)
        end = length if number == count - 1 else begin + tile - margin
        yield _Span(slice(begin, begin + tile), slice(kept, end), slice(kept - begin, end - begin))
        kept = end
