"""The picture of similarity maps: one cosine has one colour in all maps of a row."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cp2fast.config import PretrainSettings
from cp2fast.inspection.pairs import first_pairs
from cp2fast.inspection.pictures import draw_similarity_picture
from cp2fast.inspection.similarity import SimilarityMap, foreground_cells

STRIDE, GRID = 16, 4


def test_a_map_of_nearly_one_cosine_is_not_stretched_to_all_colours(
    settings: PretrainSettings, tmp_path: Path
) -> None:
    """Beside a map from 0 to 1, one from 0.95 to 1 is bright all over."""
    pairs = first_pairs(settings, 1)
    cell = foreground_cells(pairs, 0, STRIDE)[0]
    spread = torch.linspace(0, 1, GRID * GRID).reshape(GRID, GRID)
    wide, narrow = (SimilarityMap(cosine, 0, 0, None) for cosine in (spread, 0.95 + spread / 20))
    draw_similarity_picture(pairs, [cell], [wide], [narrow], [], tmp_path / "maps.png")
    draw_similarity_picture(pairs, [cell], [wide], [wide], [], tmp_path / "same.png")
    differing = brightness(tmp_path / "maps.png")
    assert np.ptp(differing["random"]) > 80
    assert np.ptp(differing["trained"]) < 40
    same = brightness(tmp_path / "same.png")
    assert same["random"] == pytest.approx(same["trained"], abs=8)


def brightness(path: Path) -> dict[str, np.ndarray]:
    """Of sixteen strips of each map, from top to bottom."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L")).astype(float)
    dots = pixels.shape[1] / (2 * 0.45 + 4 * 2.5 + 3 * 0.3)
    strips = {}
    for column, name in ((2, "random"), (3, "trained")):
        left = 0.45 + column * 2.8
        rows = slice(round(1.07 * dots), round(3.47 * dots))
        columns = slice(round((left + 0.1) * dots), round((left + 2.4) * dots))
        parts = np.array_split(pixels[rows, columns], 16)
        strips[name] = np.array([part.mean() for part in parts])
    return strips
