"""Save figures: their text is literal, and a file appears complete or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from cp2fast.console import printable
from cp2fast.run_folder import atomic_write

_NONE: Mapping[str, int] = MappingProxyType({})


def save_figure(
    figure: Figure,
    path: Path,
    *,
    format: str = "png",  # noqa: A002
    dpi: int = 100,
    options: Mapping[str, int] = _NONE,
) -> None:
    """Write a figure.

    Its text may hold names of files and classes, in which a dollar sign is no formula. Characters
    that the font lacks are drawn as boxes, without a warning for each.

    Args:
        figure: the figure.
        path: path of the file.
        format: as in ``Figure.savefig``.
        dpi: pixels per inch.
        options: of Pillow for this format.
    """
    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_parse_math(False)
            text.set_text(printable(text.get_text()))
    with warnings.catch_warnings(), atomic_write(path) as file:
        warnings.filterwarnings("ignore", r"Glyph \d+")
        figure.savefig(file, format=format, dpi=dpi, pil_kwargs=dict(options))
