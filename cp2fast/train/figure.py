"""How matplotlib's figures become PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from cp2fast.run_folder import atomic_write

_DPI = 100
COMPRESSION = 1
"""Level of PNG: a picture of photos is hardly larger than at Pillow's 6, and takes a third of the
time, which counts in short runs."""


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a PNG file, replaced atomically.

    ``Figure.savefig`` would draw one with a layout engine twice.
    """
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    with atomic_write(path) as file:
        picture.save(file, format="PNG", compress_level=COMPRESSION)
