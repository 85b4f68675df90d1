"""The pictures of ``preview``: composed pairs with all that was drawn, and similarity maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from cp2fast.copypaste.parameters import (
    KEY_BACKGROUND,
    KEY_FOREGROUND,
    QUERY_BACKGROUND,
    QUERY_FOREGROUND,
    Parameters,
)
from cp2fast.inspection.pairs import Pairs, displayable
from cp2fast.inspection.similarity import Cell, Point, SimilarityMap
from cp2fast.inspection.style import BODY, FAINT, INK, KEY, LABEL, QUERY, SIDE, Sheet, outline
from cp2fast.model.loss import sample_mask

_TABLE, _LEGEND = 0.98, 0.75
"""Room in inches below a view for its parameters, and below a map for its scale."""
_TABS = (0, 0.26, 0.52, 0.77)
"""Left edges of the four values below a view, as shares of its width."""
_TURNS = ("–", "mirrored", "flipped", "180°", "transposed", "90° right", "90° left", "transversed")
"""Names by orientation."""
_COLOURS = "inferno"
_OPACITY = 0.72
_JITTER = ("brightness", "contrast", "saturation", "hue")


def draw_pairs_picture(pairs: Pairs, count: int, stride: int, about: str, path: Path) -> None:
    """Draw the first ``count`` pairs, one per row.

    Each row shows the photo with both crops; the composed query and key with the foreground
    outlined and a dot at each foreground cell of the feature grid, which has a cell per ``stride``
    pixels; the two background photos with their crops; and below each view its random parameters.
    The line ``about`` describes the settings.
    """
    grid = pairs.composed.query.shape[-1] // stride
    lines = [
        about,
        f"Outlined: the foreground. Dots: the cells of the {grid} × {grid} feature grid that "
        "count as foreground. Colour factors stand in the order in which they are applied.",
    ]
    headings = [
        ("photo, both crops", FAINT),
        ("query", QUERY),
        ("key", KEY),
        ("query's background", QUERY),
        ("key's background", KEY),
    ]
    sheet = Sheet("Composed pairs", lines, headings, count, _TABLE)
    for row, top in enumerate(sheet.rows):
        _draw_pair(sheet, pairs, row, stride, top)
    sheet.save(path)


def _draw_pair(sheet: Sheet, pairs: Pairs, row: int, stride: int, top: float) -> None:
    photo, query, key, query_background, key_background = sheet.columns
    composed, decoded = pairs.composed, pairs.decoded
    position = _draw_photo(
        sheet, pairs, row, {QUERY_FOREGROUND: QUERY, KEY_FOREGROUND: KEY}, photo, top
    )
    height, width = int(decoded.height[position]), int(decoded.width[position])
    below = top + SIDE * min(1, height / width) + 0.08
    sheet.write(photo, below, _short(pairs.names[position]), size=BODY)
    size = f"{width} × {height} px, number {int(decoded.index[position])}"
    sheet.write(photo, below + 0.16, size, size=LABEL + 0.6, colour=FAINT)
    for left, images, masks, view, colour in (
        (query, composed.query, composed.query_mask, QUERY_FOREGROUND, QUERY),
        (key, composed.key, composed.key_mask, KEY_FOREGROUND, KEY),
    ):
        axis = sheet.show(left, top, displayable(images[row], pairs.augment))
        rows, columns = sample_mask(masks[row : row + 1], stride)[0].nonzero(as_tuple=True)
        x, y = (stride // 2 + stride * cells.numpy() + 0.5 for cells in (columns, rows))
        axis.scatter(x, y, s=5, c="white", edgecolors=colour, linewidths=0.6)
        outline(axis, pairs.parameters.paste[row, view], colour)
        _write_parameters(sheet, pairs, row, view, left, top + SIDE)
    for left, view, colour in (
        (query_background, QUERY_BACKGROUND, QUERY),
        (key_background, KEY_BACKGROUND, KEY),
    ):
        _draw_photo(sheet, pairs, row, {view: colour}, left, top)
        _write_parameters(sheet, pairs, row, view, left, top + SIDE)


def _draw_photo(
    sheet: Sheet, pairs: Pairs, row: int, views: Mapping[int, str], left: float, top: float
) -> int:
    """Draw a photo with the crops that views take from it; returns its position in the batch."""
    position = int(pairs.parameters.source[row, next(iter(views))])
    axis = sheet.show(left, top, pairs.decoded.image(position))
    for view, colour in views.items():
        outline(axis, pairs.parameters.box[row, view], colour)
    return position


def _write_parameters(
    sheet: Sheet, pairs: Pairs, row: int, view: int, left: float, top: float
) -> None:
    """Write two rows of four labelled values below a view."""
    position = int(pairs.parameters.source[row, view])
    photo_pixels = int(pairs.decoded.height[position]) * int(pairs.decoded.width[position])
    for line, values in enumerate(_described(pairs.parameters, row, view, photo_pixels)):
        for column, (label, value) in enumerate(values):
            x, y = left + _TABS[column] * SIDE, top + 0.08 + 0.36 * line
            sheet.write(x, y, label, size=LABEL, colour=FAINT)
            sheet.write(x, y + 0.12, value, colour=FAINT if value == "–" else INK)


def _described(
    parameters: Parameters, row: int, view: int, photo_pixels: int
) -> list[list[tuple[str, str]]]:
    """The random parameters of a view, as labels and values; a dash if not applied."""
    sigma = float(parameters.sigma[row, view])
    height, width = parameters.box[row, view, 2:].tolist()
    first = [
        ("crop area", f"{width * height / photo_pixels:.0%}"),
        ("turned", _TURNS[int(parameters.orientation[row, view])]),
        ("grey", "yes" if parameters.grey[row, view] else "–"),
        ("blur", f"σ {sigma:.1f} px" if sigma else "–"),
    ]
    if not parameters.jitter[row, view]:
        return [first, [("colour jitter", "–")]]
    factor, order = parameters.factor[row, view], parameters.order[row, view]
    return [first, [(_JITTER[step], _factor(step, factor)) for step in order.tolist()]]


def _factor(step: int, factor_4: Tensor) -> str:
    value = float(factor_4[step])
    if _JITTER[step] == "hue":
        return f"{360 * value:+.0f}°".replace("-", "−")
    return f"× {value:.2f}"


def _short(name: str, longest: int = 34) -> str:
    """A file name shortened to fit, keeping its end."""
    return name if len(name) <= longest else "…" + name[1 - longest :]


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
    title = "Where the network finds a place of the query in the key"
    headings = [
        ("query, one cell marked", QUERY),
        ("key, the same spot", KEY),
        ("random weights", FAINT),
        ("trained", INK),
    ]
    sheet = Sheet(title, about, headings, len(cells), _LEGEND)
    for top, cell, *both in zip(sheet.rows, cells, before, after, strict=True):
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
        sheet.write(left, top + SIDE + 0.08, note, size=LABEL, colour=FAINT)


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
    _draw_scale(sheet, *limits, left, top + SIDE + 0.1)
    foreground, background = _number(similarity.foreground), _number(similarity.background)
    at = "" if similarity.at_match is None else f" · at the mark {_number(similarity.at_match)}"
    text = f"foreground {foreground} · background {background}{at}"
    sheet.write(left, top + SIDE + 0.32, text, size=LABEL + 0.4)


def _draw_scale(sheet: Sheet, low: float, high: float, left: float, top: float) -> None:
    bar = sheet.panel(left + 0.42, top, SIDE - 0.84, 0.1)
    bar.imshow([[step / 255 for step in range(256)]], aspect="auto", cmap=_COLOURS)
    sheet.write(left, top - 0.01, _number(low), size=LABEL, colour=FAINT)
    sheet.write(left + SIDE - 0.32, top - 0.01, _number(high), size=LABEL, colour=FAINT)


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
