"""Pictures of labels: masks over their images, and rows of pictures with a legend of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cp2fast.config import Rgb
from cp2fast.figure import save_figure
from cp2fast.labels.classes import palette_of
from cp2fast.labels.dataset import LabelledData
from cp2fast.labels.masks import IGNORED

_CLASSES_A_LINE = 7
"""Classes per line of a legend."""
_MOST_NAMED = 42
"""Most classes in a legend."""


def overlay(
    image_HW3: NDArray[np.uint8], labels_HW: NDArray[Any], colours: Sequence[Rgb] = ()
) -> NDArray[np.uint8]:
    """Blend the labels, in the colours of their classes, half transparently over the image.

    Args:
        image_HW3: RGB image, uint8.
        labels_HW: integers from 0 to 255; where the class is ignored (255) or black, such as
            VOC's background, the image is unchanged.
        colours: colours by label; VOC's if empty.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    palette = palette_of(colours)
    mixed = (image_HW3.astype(np.uint16) + palette[labels_HW]) // 2
    clear = ((palette[labels_HW] == 0).all(axis=-1) | (labels_HW == IGNORED))[..., None]
    return np.where(clear, image_HW3, mixed).astype(np.uint8)


def draw_grid(
    rows: Sequence[Sequence[NDArray[Any]]],
    titles: Mapping[tuple[int, int], str],
    path: Path,
    data: LabelledData | None = None,
    cell: tuple[float, float] = (2, 2.1),
) -> None:
    """Draw rows of pictures, and below them the legend of the classes.

    Args:
        rows: pictures that matplotlib shows, row by row.
        titles: titles by row and column.
        path: the file, replaced atomically.
        data: data set with the classes; without it there is no legend.
        cell: width and height of a picture with its title, in inches.
    """
    width, height = cell
    columns = len(rows[0])
    size = (width * columns, height * len(rows) + (0.6 if data is not None else 0))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, pictures in zip(axes, rows, strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
    for place, title in titles.items():
        axes[place].set_title(title[-32:], fontsize=8, loc="left")
    if data is not None:
        _draw_legend(figure, data)
    save_figure(figure, path)


def _draw_legend(figure: Figure, data: LabelledData) -> None:
    """Name the colours of the first classes, and of what is ignored, below a figure."""
    palette = palette_of(data.colours) / 255
    named = [*enumerate(data.classes[:_MOST_NAMED]), (IGNORED, "ignored")]
    figure.legend(
        handles=[Patch(color=tuple(palette[label]), label=name) for label, name in named],
        loc="outside lower left",
        ncols=_CLASSES_A_LINE,
        fontsize=7,
        frameon=False,
    )
