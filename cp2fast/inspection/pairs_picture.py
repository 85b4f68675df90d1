"""The picture of composed pairs: photos, crops, random parameters and the network's input."""

from __future__ import annotations

from collections.abc import Mapping
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
from cp2fast.inspection.style import BODY, FAINT, INK, KEY, LABEL, QUERY, Sheet, outline
from cp2fast.model.loss import sample_mask

_SIDE, _TABLE = 2.5, 0.98
_HEAD, _HEADING = 1.15, 0.26
_HEADINGS = [
    ("photo, both crops", FAINT),
    ("query", QUERY),
    ("key", KEY),
    ("query's background", QUERY),
    ("key's background", KEY),
]
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
    row_height = _SIDE + _TABLE
    sheet = Sheet(len(_HEADINGS), _SIDE, _HEAD + _HEADING + count * row_height)
    grid = pairs.composed.query.shape[-1] // stride
    sheet.title(
        "Composed pairs",
        [
            about,
            f"Outlined: the foreground. Dots: the cells of the {grid} × {grid} feature grid that "
            "count as foreground. Colour factors stand in the order in which they are applied.",
        ],
    )
    sheet.headings(_HEAD, _HEADINGS)
    for row in range(count):
        _draw_pair(sheet, pairs, row, stride, _HEAD + _HEADING + row * row_height)
    sheet.save(path)


def _draw_pair(sheet: Sheet, pairs: Pairs, row: int, stride: int, top: float) -> None:
    photo, query, key, query_background, key_background = sheet.columns
    composed, decoded = pairs.composed, pairs.decoded
    position = _draw_photo(
        sheet, pairs, row, {QUERY_FOREGROUND: QUERY, KEY_FOREGROUND: KEY}, photo, top
    )
    height, width = int(decoded.height[position]), int(decoded.width[position])
    below = top + _SIDE * min(1, height / width) + 0.08
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
        _write_parameters(sheet, pairs, row, view, left, top + _SIDE)
    for left, view, colour in (
        (query_background, QUERY_BACKGROUND, QUERY),
        (key_background, KEY_BACKGROUND, KEY),
    ):
        _draw_photo(sheet, pairs, row, {view: colour}, left, top)
        _write_parameters(sheet, pairs, row, view, left, top + _SIDE)


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
