"""The picture of similarity maps: a query's point in its key, before and after training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke

from cp2fast.inspection.pairs import Pairs, displayable
from cp2fast.inspection.similarity import Cell, Point, SimilarityMap
from cp2fast.inspection.style import FAINT, INK, KEY, LABEL, QUERY, Sheet, outline

_SIDE, _LEGEND = 2.6, 0.75
_HEAD, _HEADING = 1.55, 0.26
_HEADINGS = [
    ("query, one cell marked", QUERY),
    ("key, the same spot", KEY),
    ("random weights", FAINT),
    ("trained", INK),
]
_COLOURS = "inferno"
_OPACITY = 0.72


def draw_similarity_picture(
    pairs: Pairs,
    cells: Sequence[Cell],
    before: Sequence[SimilarityMap],
    after: Sequence[SimilarityMap],
    about: Sequence[str],
    path: Path,
) -> None:
    """Draw one cell per row: in the query, in the key, and the key's map before and after training.

    Both maps of a row use the same colour scale; with separate scales, any map would appear to
    distinguish places. The lines ``about`` stand below the title.
    """
    row_height = _SIDE + _LEGEND
    height = _HEAD + _HEADING + len(cells) * row_height + 0.1
    sheet = Sheet(len(_HEADINGS), _SIDE, height)
    sheet.title("Where the network finds a place of the query in the key", about)
    sheet.headings(_HEAD, _HEADINGS)
    for row, (cell, *both) in enumerate(zip(cells, before, after, strict=True)):
        top = _HEAD + _HEADING + row * row_height
        _draw_views(sheet, pairs, cell, top)
        cosines = torch.stack([similarity.cosine_hw for similarity in both])
        limits = float(cosines.min()), float(cosines.max())
        for left, similarity in zip(sheet.columns[2:], both, strict=True):
            _draw_map(sheet, pairs, cell, similarity, limits, left, top)
    sheet.save(path)


def _draw_views(sheet: Sheet, pairs: Pairs, cell: Cell, top: float) -> None:
    composed, paste = pairs.composed, pairs.parameters.paste[cell.sample]
    no_match = "no foreground cell of the query is in the key's foreground"
    views = (
        (composed.query, paste[0], QUERY, cell.place, pairs.names[cell.sample]),
        (composed.key, paste[1], KEY, cell.match, "" if cell.match else no_match),
    )
    for left, (images, box, colour, place, note) in zip(sheet.columns, views, strict=False):
        axis = sheet.show(left, top, displayable(images[cell.sample], pairs.augment))
        outline(axis, box, colour)
        if place is not None:
            _mark(axis, place)
        sheet.write(left, top + _SIDE + 0.08, note, size=LABEL, colour=FAINT)


def _draw_map(
    sheet: Sheet,
    pairs: Pairs,
    cell: Cell,
    similarity: SimilarityMap,
    limits: tuple[float, float],
    left: float,
    top: float,
) -> None:
    """Draw the key in grey under its map, and the colour scale below."""
    key = displayable(pairs.composed.key[cell.sample], pairs.augment)
    size = key.shape[0]
    axis = sheet.show(left, top, key.mean(dim=2, keepdim=True).expand(-1, -1, 3))
    axis.imshow(
        similarity.cosine_hw.numpy(),
        extent=(0, size, size, 0),
        interpolation="bicubic",
        cmap=_COLOURS,
        alpha=_OPACITY,
        vmin=limits[0],
        vmax=limits[1],
    )
    outline(axis, pairs.parameters.paste[cell.sample, 1], INK)
    if cell.match is not None:
        _mark(axis, cell.match)
    _draw_scale(sheet, *limits, left, top + _SIDE + 0.1)
    foreground, background = _number(similarity.foreground), _number(similarity.background)
    at = "" if similarity.at_match is None else f" · at the mark {_number(similarity.at_match)}"
    text = f"foreground {foreground} · background {background}{at}"
    sheet.write(left, top + _SIDE + 0.32, text, size=LABEL + 0.4)


def _draw_scale(sheet: Sheet, low: float, high: float, left: float, top: float) -> None:
    bar = sheet.panel(left + 0.42, top, _SIDE - 0.84, 0.1)
    bar.imshow([[step / 255 for step in range(256)]], aspect="auto", cmap=_COLOURS)
    sheet.write(left, top - 0.01, _number(low), size=LABEL, colour=FAINT)
    sheet.write(left + _SIDE - 0.32, top - 0.01, _number(high), size=LABEL, colour=FAINT)


def _mark(axis: Axes, place: Point) -> None:
    """Draw a ring that is visible on any image."""
    [ring] = axis.plot(
        [place.x],
        [place.y],
        marker="o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor="white",
        markeredgewidth=2,
    )
    ring.set_path_effects([Stroke(linewidth=4, foreground="black"), Normal()])


def _number(cosine: float) -> str:
    return "–" if math.isnan(cosine) else f"{cosine:.2f}".replace("-", "−")
