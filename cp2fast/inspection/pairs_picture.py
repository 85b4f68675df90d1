"""The picture of composed pairs: photos, crops, random parameters and the network's input."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from cp2fast.copypaste.parameters import (
    KEY_BACKGROUND,
    KEY_FOREGROUND,
    QUERY_BACKGROUND,
    QUERY_FOREGROUND,
    Parameters,
)
from cp2fast.inspection.pairs import Pairs, displayable
from cp2fast.inspection.style import (
    BODY,
    FAINT,
    HEADING,
    INK,
    KEY,
    LABEL,
    QUERY,
    Sheet,
    cell_centres,
    outline,
    show,
)
from cp2fast.model.loss import sample_mask

_SIDE, _GAP, _MARGIN = 2.5, 0.3, 0.45
_HEAD, _HEADING, _TABLE = 1.15, 0.26, 0.98
_ROW = _SIDE + _TABLE
_TABS = (0, 0.26, 0.52, 0.77)
"""Left edges of the four values below a view, as shares of its width."""
_TURNS = ("–", "mirrored", "flipped", "180°", "transposed", "90° right", "90° left", "transversed")
"""Names by orientation."""
_JITTER = ("brightness", "contrast", "saturation", "hue")


def draw_pairs_picture(pairs: Pairs, count: int, stride: int, about: str, path: Path) -> None:
    """Draw the first ``count`` pairs, one per row.

    Each row shows the photo with both crops; the composed query and key with the foreground
    outlined and a dot at each foreground cell of the feature grid, which has a cell per ``stride``
    pixels; the two background photos with their crops; and below each view its random parameters.
    The line ``about`` describes the settings.
    """
    columns = [_MARGIN + column * (_SIDE + _GAP) for column in range(5)]
    height = _HEAD + _HEADING + count * _ROW
    sheet = Sheet(columns[-1] + _SIDE + _MARGIN, height)
    grid = pairs.composed.query.shape[-1] // stride
    sheet.title(
        columns[0],
        "Composed pairs",
        [
            about,
            f"Outlined: the foreground. Dots: the cells of the {grid} × {grid} feature grid that "
            "count as foreground. Colour factors stand in the order in which they are applied.",
        ],
    )
    headings = ("photo, both crops", "query", "key", "query's background", "key's background")
    colours = (FAINT, QUERY, KEY, QUERY, KEY)
    for left, heading, colour in zip(columns, headings, colours, strict=True):
        sheet.write(left, _HEAD, heading, size=HEADING, colour=colour, weight="bold")
    for row in range(count):
        _draw_pair(sheet, pairs, row, stride, columns, _HEAD + _HEADING + row * _ROW)
    sheet.save(path)


def _draw_pair(
    sheet: Sheet, pairs: Pairs, row: int, stride: int, columns: list[float], top: float
) -> None:
    photo, query, key, query_background, key_background = columns
    both = ((QUERY_FOREGROUND, QUERY), (KEY_FOREGROUND, KEY))
    _draw_photo(sheet, pairs, row, both, photo, top)
    composed = pairs.composed
    sides = (
        (query, composed.query, composed.query_mask, QUERY_FOREGROUND, QUERY),
        (key, composed.key, composed.key_mask, KEY_FOREGROUND, KEY),
    )
    for left, images, masks, view, colour in sides:
        axis = sheet.panel(left, top, _SIDE, _SIDE)
        show(axis, displayable(images[row], pairs.augment))
        cells = sample_mask(masks[row : row + 1], stride)[0]
        axis.scatter(
            *cell_centres(cells, stride), s=5, c="white", edgecolors=colour, linewidths=0.6
        )
        outline(axis, pairs.parameters.paste[row, view], colour)
        _write_parameters(sheet, pairs, row, view, left, top + _SIDE)
    backgrounds = (
        (query_background, QUERY_BACKGROUND, QUERY),
        (key_background, KEY_BACKGROUND, KEY),
    )
    for left, view, colour in backgrounds:
        _draw_photo(sheet, pairs, row, ((view, colour),), left, top)
        _write_parameters(sheet, pairs, row, view, left, top + _SIDE)


def _draw_photo(
    sheet: Sheet,
    pairs: Pairs,
    row: int,
    views: tuple[tuple[int, str], ...],
    left: float,
    top: float,
) -> None:
    """Draw a source photo with the crops taken from it."""
    position = int(pairs.parameters.source[row, views[0][0]])
    image = pairs.decoded.image(position)
    axis = sheet.panel(left, top, _SIDE, _SIDE)
    show(axis, image)
    for view, colour in views:
        outline(axis, pairs.parameters.box[row, view], colour)
    if len(views) > 1:
        height, width = image.shape[:2]
        below = top + _SIDE * min(1, height / width) + 0.08
        sheet.write(left, below, _short(pairs.names[position]), size=BODY)
        size = f"{width} × {height} px, number {int(pairs.decoded.index[position])}"
        sheet.write(left, below + 0.16, size, size=LABEL + 0.6, colour=FAINT)


def _write_parameters(
    sheet: Sheet, pairs: Pairs, row: int, view: int, left: float, top: float
) -> None:
    """Write two rows of four labelled values below a view."""
    position = int(pairs.parameters.source[row, view])
    photo_pixels = int(pairs.decoded.height[position]) * int(pairs.decoded.width[position])
    for line, values in enumerate(_described(pairs.parameters, row, view, photo_pixels)):
        for column, (label, value) in enumerate(values):
            x, y = left + _TABS[column] * _SIDE, top + 0.08 + 0.36 * line
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
