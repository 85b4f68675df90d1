"""Pictures hold names as they are."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cp2fast.figure import save_figure


def drawn(text: str, path: Path) -> np.ndarray:
    figure = Figure(figsize=(4, 1))
    figure.subplots().set_title(text)
    save_figure(figure, path)
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize("text", ["$x_1_2$", "50 $ to 60 $", "a\udcff.jpg", "a\nb\tc"])
def test_any_name_can_be_drawn(tmp_path: Path, text: str) -> None:
    assert (drawn(text, tmp_path / "text.png") != drawn("", tmp_path / "none.png")).any()


def test_dollar_signs_are_drawn(tmp_path: Path) -> None:
    ink = [(drawn(text, tmp_path / "text.png") < 128).sum() for text in ("x", "$x$")]
    assert ink[0] < ink[1]


def test_a_letter_that_the_font_lacks_is_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn("\u732b", tmp_path / "cat.png")
