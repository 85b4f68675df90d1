"""Masks over their images, and rows of pictures with a legend."""

from pathlib import Path

import numpy as np
from PIL import Image

from cp2fast.labels.pictures import draw_grid, overlay
from tests.labels.small_sets import NAMED, in_colours, opened, pairs

RED, BLUE = np.uint8([250, 0, 0]), np.uint8([0, 0, 250])


def test_an_overlay_shows_the_background_as_it_is() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    mixed = overlay(image, np.array([[0, 1, 255]]))
    assert mixed.tolist() == [[[100] * 3, [(100 + 128) // 2, 50, 50], [100] * 3]]


def test_rows_of_pictures_stay_in_their_order(tmp_path: Path) -> None:
    red, blue = (np.broadcast_to(colour, (4, 4, 3)) for colour in (RED, BLUE))
    draw_grid([[red, blue], [blue, red]], {(0, 0): "$one_{"}, tmp_path / "grid.png")
    drawn = np.asarray(Image.open(tmp_path / "grid.png"))
    height, width = (side // 4 for side in drawn.shape[:2])
    centres = drawn[[height, 3 * height]][:, [width, 3 * width]]
    assert centres.tolist() == [[[*RED], [*BLUE]], [[*BLUE], [*RED]]]


def test_a_legend_has_the_colours_of_the_classes(tmp_path: Path) -> None:
    data = opened(pairs(tmp_path / "set", in_colours), colours=NAMED)
    grey = np.full((4, 4, 3), 99, np.uint8)
    draw_grid([[grey]], {}, tmp_path / "plain.png")
    draw_grid([[grey]], {}, tmp_path / "legend.png", data)
    plain, legend = (Image.open(tmp_path / f"{name}.png") for name in ("plain", "legend"))
    assert legend.height > plain.height
    below = {
        colour for _, colour in legend.crop((0, plain.height, *legend.size)).getcolors(1 << 20)
    }
    assert {(128, 64, 128), (0, 130, 180)} <= below
