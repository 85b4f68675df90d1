"""Save figures: their text is literal, and a file appears complete or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from cp2fast.console import printable
from cp2fast.run_folder import atomic_write

QUICK_PNG: Mapping[str, int] = MappingProxyType({"compress_level": 1})
"""Of photos, hardly larger than at Pillow's level 6 and written in a third of the time."""


def save_figure(
    figure: Figure,
    path: Path,
    *,
    format: str = "png",  # noqa: A002
    dpi: int = 100,
    options: Mapping[str, int] = QUICK_PNG,
) -> None:
    """Write a figure.

    Its text may hold names of files and classes, in which a dollar sign is no formula. Line breaks
    are drawn as escapes, and characters that the font lacks as boxes, without a warning for each.

    Args:
        figure: the figure.
        path: path of the file.
        format: of Pillow.
        dpi: pixels per inch.
        options: of Pillow for this format.
    """
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_parse_math(False)
            text.set_text(printable(text.get_text()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")
        # Once: savefig draws a figure with a layout engine twice.
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    with atomic_write(path) as file:
        Image.fromarray(pixels[..., :3].copy()).save(file, format=format, **options)
