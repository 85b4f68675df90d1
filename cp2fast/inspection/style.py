"""The common style of all pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from cp2fast.errors import UserError
from cp2fast.figure import QUICK_PNG, save_figure
from cp2fast.files import refuse_target

QUERY, KEY = "#1769e0", "#e8590c"
"""Colours that can be distinguished with any kind of colour vision."""
INK, FAINT = "#1b1f24", "#7a828c"
TITLE, HEADING, BODY, LABEL = 15, 9.5, 8, 6.4
"""Font sizes in points."""
SIDE = 2.5
"""Side of a panel in inches."""
_DPI = 110
_GAP, _MARGIN = 0.3, 0.45
_FORMATS = {"png": QUICK_PNG, "webp": {"quality": 85, "method": 6}}
"""Options for Pillow; WebP files are a tenth of the size of PNG."""
_CASING = [Stroke(linewidth=3.4, foreground="white", alpha=0.9), Normal()]


class Sheet:
    """A page of rows of square panels; positions are in inches from its top left corner.

    Attributes:
        columns: left edge of each column.
        rows: top of the panels of each row; ``below`` them is room for text.
    """

    def __init__(
        self,
        title: str,
        lines: Sequence[str],
        headings: Sequence[tuple[str, str]],
        rows: int,
        below: float,
    ) -> None:
        head = 0.77 + 0.19 * len(lines)
        self.columns = [_MARGIN + column * (SIDE + _GAP) for column in range(len(headings))]
        self.rows = [head + 0.26 + row * (SIDE + below) for row in range(rows)]
        self.width = self.columns[-1] + SIDE + _MARGIN
        self.height = head + 0.36 + rows * (SIDE + below)
        self._figure = Figure(figsize=(self.width, self.height), facecolor="white")
        self.write(_MARGIN, 0.28, title, size=TITLE, weight="bold")
        for number, line in enumerate(lines):
            self.write(_MARGIN, 0.62 + 0.19 * number, line, size=BODY + 0.5, colour=FAINT)
        for left, (text, colour) in zip(self.columns, headings, strict=True):
            self.write(left, head, text, size=HEADING, colour=colour, weight="bold")

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add an empty panel without axes."""
        bottom = self.height - top - height
        axis = self._figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )
        axis.set_axis_off()
        return axis

    def write(
        self,
        left: float,
        top: float,
        text: str,
        *,
        size: float = BODY,
        colour: str = INK,
        weight: Literal["normal", "bold"] = "normal",
    ) -> None:
        """Write a line of text with its left edge at ``left`` and its top at ``top``."""
        self._figure.text(
            left / self.width,
            1 - top / self.height,
            text,
            size=size,
            color=colour,
            weight=weight,
            va="top",
        )

    def show(self, left: float, top: float, image_HW3: Tensor) -> Axes:
        """Show an image in continuous pixel coordinates, at the top of a square panel."""
        height, width = image_HW3.shape[:2]
        axis = self.panel(left, top, SIDE, SIDE)
        axis.imshow(image_HW3.numpy(), extent=(0, width, height, 0), interpolation="antialiased")
        axis.set_anchor("NW")
        axis.set_autoscale_on(False)  # What is drawn on it does not change its limits.
        return axis

    def save(self, path: Path) -> None:
        """Write the page atomically, in the format given by the file name."""
        kind = path.suffix.lower().removeprefix(".")
        save_figure(self._figure, path, format=kind, dpi=_DPI, options=_FORMATS[kind])


def check_target(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Raises:
        UserError: it has an unsupported format, or as ``refuse_target``.
    """
    if path.suffix.lower().removeprefix(".") not in _FORMATS:
        raise UserError(f"{path}: the picture is PNG or WebP; name it --out FILE.png")
    refuse_target(path)


def outline(axis: Axes, box_4: Tensor, colour: str) -> None:
    """Draw a rectangle (top, left, height, width) that is visible on any image."""
    top, left, height, width = box_4.tolist()
    axis.add_patch(
        Rectangle(
            (left, top),
            width,
            height,
            fill=False,
            edgecolor=colour,
            linewidth=1.8,
            path_effects=_CASING,
            clip_on=False,
        )
    )
