"""What is drawn of a run, looked at pixel by pixel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cp2fast.pretrain.pictures import CURVES
from cp2fast.train.curves import draw_curves

BLUE, ORANGE = (31, 119, 180), (255, 127, 14)
"""Of a panel's first and second curve."""
PANELS = [(row, column) for row in range(2) for column in range(3)]
NAMES = ("loss", "loss_instance", "loss_dense", "accuracy_instance", "accuracy_dense")


def metrics(steps: range, data: float = 0.01) -> list[dict[str, Any]]:
    time = {"data": data, "step": 1 - data, "save": 0, "evaluate": 0, "log": 0, "start": 0}
    rest = {"similarity_gap": 0.02, "images_per_second": 12.0, "time": time}
    return [{"step": step, **dict.fromkeys(NAMES, 1 / step), **rest} for step in steps]


def curve(path: Path, panel: tuple[int, int], colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of the panel's pixels of this colour, without its title and legend."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 3
    top, left = panel[0] * height + 24, panel[1] * width
    inside = pixels[top : top + height - 24, left : left + width]
    return np.argwhere(np.abs(inside - colour).max(-1) < 40)


@pytest.mark.parametrize("panel", PANELS)
def test_a_single_logged_step_is_seen_in_every_panel(panel: tuple[int, int], tmp_path: Path):
    draw_curves(metrics(range(3, 4)), CURVES, tmp_path / "curves.png")
    colour = ORANGE if panel in ((0, 0), (0, 2)) else BLUE
    assert len(curve(tmp_path / "curves.png", panel, colour)) >= 6


def test_the_areas_of_the_time_accounts_are_their_shares(tmp_path: Path):
    for data in (0.1, 0.5, 0.9):
        draw_curves(metrics(range(1, 100), data), CURVES, tmp_path / "curves.png")
        step, waiting = (
            len(curve(tmp_path / "curves.png", (1, 2), colour)) for colour in (BLUE, ORANGE)
        )
        assert waiting / (step + waiting) == pytest.approx(data, abs=0.03)


def test_no_label_is_cut_at_the_edge(tmp_path: Path):
    rows = [row | {"similarity_gap": row["step"] / 1e5 - 0.0040} for row in metrics(range(1, 12))]
    draw_curves(rows, CURVES, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert (np.asarray(image)[:, :2] == 255).all()


def test_a_legend_hides_no_curve(tmp_path: Path):
    """All of a flat curve is there, wherever it lies in its panel."""
    for value in (0.0, 1.0):
        rows = [row | {"accuracy_instance": 1 - value} for row in metrics(range(1, 100))]
        for row in rows:
            row["accuracy_dense"] = value
        draw_curves(rows, CURVES, tmp_path / "curves.png")
        for colour in (BLUE, ORANGE):
            columns = np.unique(curve(tmp_path / "curves.png", (0, 2), colour)[:, 1])
            assert np.diff(columns).max() == 1
            assert len(columns) > 230
