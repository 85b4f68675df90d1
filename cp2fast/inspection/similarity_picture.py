"""The picture of similarity maps: a query's point in its key, before and after training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke

from cp2fast.inspection.geometry import Point
from cp2fast.inspection.pairs import Pairs, displayable
from cp2fast.inspection.similarity import Cell, SimilarityMap
from cp2fast.inspection.style import (
    FAINT,
    HEADING,
    INK,
    KEY,
    LABEL,
    QUERY,
    Sheet,
    outline,
    show,
)

_SIDE, _GAP, _MARGIN, _LEGEND = 2.6, 0.3, 0.45, 0.75
_HEAD, _HEADING = 1.55, 0.26
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
    columns = [_MARGIN + column * (_SIDE + _GAP) for column in range(4)]
    rows = len(cells)
    height = _HEAD + _HEADING + rows * (_SIDE + _LEGEND) + 0.1
    sheet = Sheet(columns[-1] + _SIDE + _MARGIN, height)
    sheet.title(columns[0], "Where the network finds a place of the query in the key", about)
    headings = ("query, one cell marked", "key, the same spot", "random weights", "trained")
    colours = (QUERY, KEY, FAINT, INK)
    for left, heading, colour in zip(columns, headings, colours, strict=True):
        sheet.write(left, _HEAD, heading, size=HEADING, colour=colour, weight="bold")
    for row, cell in enumerate(cells):
        top = _HEAD + _HEADING + row * (_SIDE + _LEGEND)
        _draw_views(sheet, pairs, cell, columns[0], columns[1], top)
        both = torch.stack([before[row].cosine_hw, after[row].cosine_hw])
        limits = float(both.min()), float(both.max())
        for left, similarity in ((columns[2], before[row]), (columns[3], after[row])):
            _draw_map(sheet, pairs, cell, similarity, limits, left, top)
    sheet.save(path)


def _draw_views(
    sheet: Sheet, pairs: Pairs, cell: Cell, query_left: float, key_left: float, top: float
) -> None:
    query, key = (
        displayable(images[cell.sample], pairs.augment)
        for images in (pairs.composed.query, pairs.composed.key)
    )
    axis = sheet.panel(query_left, top, _SIDE, _SIDE)
    show(axis, query)
    outline(axis, pairs.parameters.paste[cell.sample, 0], QUERY)
    _mark(axis, cell.place)
    sheet.write(query_left, top + _SIDE + 0.08, pairs.names[cell.sample], size=LABEL, colour=FAINT)
    axis = sheet.panel(key_left, top, _SIDE, _SIDE)
    show(axis, key)
    outline(axis, pairs.parameters.paste[cell.sample, 1], KEY)
    if cell.match is None:
        note = "no foreground cell of the query is in the key's foreground"
        sheet.write(key_left, top + _SIDE + 0.08, note, size=LABEL, colour=FAINT)
    else:
        _mark(axis, cell.match)


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
    axis = sheet.panel(left, top, _SIDE, _SIDE)
    key = displayable(pairs.composed.key[cell.sample], pairs.augment)
    size = key.shape[0]
    show(axis, key.mean(dim=2, keepdim=True).expand(-1, -1, 3))
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
    at = "" if similarity.at_match is None else f" · at the mark {_number(similarity.at_match)}"
    text = (
        f"foreground {_number(similarity.foreground)} · "
        f"background {_number(similarity.background)}{at}"
    )
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
