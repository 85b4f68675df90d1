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
from torch import Tensor

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
        image: pixels, uint8 ``[h, W, 3]``.
        labels: labels, uint8 ``[h, W]``.
        probabilities: float16 ``[K, h, W]``, on the host; None if not requested.
    """

    top: int
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float16] | None


class _Span(NamedTuple):
    """One side of a tile: the segmented range, and the part of it that is kept."""

    begin: int
    end: int
    keep_begin: int
    keep_end: int


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
        device: device of the network.
        wants_probabilities: whether the bands include probabilities.
    """
    height, width = picture_HW3.shape[:2]
    for row in _spans(height, tile):
        columns = list(_spans(width, tile))
        band = np.array(picture_HW3[row.begin : row.end])  # a copy in memory
        rows = row.keep_end - row.keep_begin
        labels = np.empty((rows, width), np.uint8)
        kept: NDArray[np.float16] | None = None
        for begin in range(0, len(columns), _AT_ONCE):
            group = columns[begin : begin + _AT_ONCE]
            tiles = torch.stack([torch.from_numpy(band[:, c.begin : c.end]) for c in group])
            found = class_probabilities(network, tiles.to(device), settings, side=tile)
            for column, probabilities in zip(group, found, strict=True):
                inside = _inside(probabilities, row, column)
                place = (..., slice(column.keep_begin, column.keep_end))
                labels[place] = inside.argmax(dim=0).byte().cpu().numpy()
                if wants_probabilities:
                    if kept is None:
                        kept = np.empty((len(inside), rows, width), np.float16)
                    kept[place] = inside.half().cpu().numpy()
        image = band[row.keep_begin - row.begin : row.keep_end - row.begin]
        yield Band(row.keep_begin, image, labels, kept)


def _inside(probabilities_Khw: Tensor, row: _Span, column: _Span) -> Tensor:
    """The probabilities without the margins that are cut off."""
    rows = slice(row.keep_begin - row.begin, row.keep_end - row.begin)
    columns = slice(column.keep_begin - column.begin, column.keep_end - column.begin)
    return probabilities_Khw[:, rows, columns]


def _spans(length: int, tile: int) -> Iterator[_Span]:
    """Tiles along one side of the picture, of length ``tile`` unless the picture is shorter."""
    if length <= tile:
        yield _Span(0, length, 0, length)
        return
    margin = round(tile * MARGIN)
    count = math.ceil((length - 2 * margin) / (tile - 2 * margin))
    keep = 0
    for number in range(count):
        begin = min(number * (tile - 2 * margin), length - tile)
        is_last = number == count - 1
        end = length if is_last else begin + tile - margin
        yield _Span(begin, begin + tile, keep, end)
        keep = end
