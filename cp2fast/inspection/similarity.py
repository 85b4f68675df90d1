"""Find a point of the query in the key by the cosines of dense embeddings.

The query encoder embeds both views, because it is the one that is kept and fine-tuned. The key
encoder, whose embedding is contrasted in training, follows it within a few hundred steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import update_bn

from cp2fast.copypaste.parameters import (
    FLIP,
    KEY_FOREGROUND,
    MIRROR,
    QUERY_FOREGROUND,
    TRANSPOSE,
    Parameters,
)
from cp2fast.inspection.pairs import Pairs
from cp2fast.model.loss import sample_mask
from cp2fast.model.segmenter import Segmenter
from cp2fast.probe.features import dense_features


class Point(NamedTuple):
    """A point in pixels from an image's top left corner; a pixel's centre is at its index + 0.5."""

    x: float
    y: float


@dataclass(frozen=True)
class Cell:
    """A foreground cell in a query.

    Attributes:
        sample: index in the batch.
        row: row of the feature grid; ``column`` likewise.
        place: centre of the cell in the query.
        match: the same point of the photo in the key's foreground; None if it is not there.
    """

    sample: int
    row: int
    column: int
    place: Point
    match: Point | None


@dataclass(frozen=True)
class SimilarityMap:
    """The cosines between one query cell and all cells of its key.

    Attributes:
        cosine_hw: cosines ``[h, w]`` over the feature grid of the key.
        foreground: mean over the key's foreground cells; ``background`` that over the others.
        at_match: value at the cell with the true match; None if the key does not show it.
    """

    cosine_hw: Tensor
    foreground: float
    background: float
    at_match: float | None

    @property
    def below_match(self) -> float | None:
        """Share of the key's cells that are less similar than the true match; chance is 0.5."""
        if self.at_match is None:
            return None
        return float((self.cosine_hw < self.at_match).float().mean())


@dataclass(frozen=True)
class Figures:
    """Means over the maps of many cells: foreground minus background, and ``below_match``.

    They are NaN if no map has a background, or a match.
    """

    gap: float
    below_match: float


def in_key(parameters: Parameters, sample: int, size: int, place: Point) -> Point | None:
    """The point of a key's crop that shows what its query's shows at ``place``; None if outside.

    ``size`` is the side of both views in pixels.
    """
    turns, boxes = parameters.orientation[sample].tolist(), parameters.box[sample].tolist()
    turn, (top, left, height, width) = turns[QUERY_FOREGROUND], boxes[QUERY_FOREGROUND]
    x = size - place.x if turn & MIRROR else place.x
    y = size - place.y if turn & FLIP else place.y
    x, y = (y, x) if turn & TRANSPOSE else (x, y)
    photo = Point(left + x * width / size, top + y * height / size)
    turn, (top, left, height, width) = turns[KEY_FOREGROUND], boxes[KEY_FOREGROUND]
    x, y = (photo.x - left) * size / width, (photo.y - top) * size / height
    if not (0 <= x < size and 0 <= y < size):
        return None
    x, y = (y, x) if turn & TRANSPOSE else (x, y)
    return Point(size - x if turn & MIRROR else x, size - y if turn & FLIP else y)


def foreground_cells(pairs: Pairs, sample: int, stride: int) -> list[Cell]:
    """The query's foreground cells, those nearest to the foreground's centre first."""
    size = pairs.composed.query.shape[-1]
    cells = sample_mask(pairs.composed.query_mask[sample : sample + 1], stride)[0]
    key_mask = pairs.composed.key_mask[sample]
    top, left, height, width = pairs.parameters.paste[sample, 0].tolist()
    found = []
    for row, column in cells.nonzero().tolist():
        place = Point((column + 0.5) * stride, (row + 0.5) * stride)
        match = in_key(pairs.parameters, sample, size, place)
        if match is not None and not key_mask[int(match.y), int(match.x)]:
            match = None
        found.append(Cell(sample, row, column, place, match))
    middle = Point(left + width / 2, top + height / 2)
    return sorted(found, key=lambda cell: math.dist(cell.place, middle))


def chosen(cells: Sequence[Cell]) -> Cell:
    """The first of a query's cells that the key shows, or the first cell if it shows none."""
    return next((cell for cell in cells if cell.match is not None), cells[0])


def similarity_map(query_Chw: Tensor, pairs: Pairs, key_Chw: Tensor, cell: Cell) -> SimilarityMap:
    """The map of one cell, from the normalised embeddings of its query and key."""
    size, stride = pairs.composed.key.shape[-1], pairs.composed.key.shape[-1] // key_Chw.shape[-1]
    cosine = torch.einsum("c,chw->hw", query_Chw[:, cell.row, cell.column], key_Chw)
    foreground = sample_mask(pairs.composed.key_mask[cell.sample : cell.sample + 1], stride)[0]
    at_match = None
    if cell.match is not None:
        row, column = (min(int(side), size - 1) // stride for side in (cell.match.y, cell.match.x))
        at_match = float(cosine[row, column])
    return SimilarityMap(
        cosine_hw=cosine,
        foreground=float(cosine[foreground].mean()),
        background=float(cosine[~foreground].mean()),
        at_match=at_match,
    )


def figures(maps: Sequence[SimilarityMap]) -> Figures:
    """The means over the maps of many cells."""
    shares = [share for one in maps if (share := one.below_match) is not None]
    # The background mean is NaN if the key has no background cell.
    gaps = [gap for one in maps if not math.isnan(gap := one.foreground - one.background)]
    return Figures(
        gap=fmean(gaps) if gaps else math.nan,
        below_match=fmean(shares) if shares else math.nan,
    )


def embed(network: Segmenter, images_B3SS: Tensor) -> Tensor:
    """Dense embeddings in inference mode, each position a unit vector: ``[B, C, h, w]``."""
    return F.normalize(dense_features(network, images_B3SS, "embedding"), dim=1)


def take_statistics(network: Segmenter, pairs: Pairs) -> None:
    """Set batch norm statistics to those of ``pairs``, for a network that has seen no images.

    Otherwise random weights would be compared with a normalisation that does nothing.
    """
    update_bn([torch.cat([pairs.composed.query, pairs.composed.key])], network)
