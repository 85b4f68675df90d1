from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cp2fast.probe.pca import colours, draw_features, explained_by, main_directions, turned


def test_the_scores_are_those_of_the_singular_value_decomposition() -> None:
    features = torch.randn(200, 12) * torch.linspace(5, 0.1, 12) + 3
    found = main_directions(features)
    centred = (features - features.mean(dim=0)).double()
    u = torch.linalg.svd(centred, full_matrices=False)[0][:, :3] * len(features) ** 0.5
    torch.testing.assert_close(found.abs(), u.abs(), atol=1e-6, rtol=1e-6)
    assert found.std(dim=0, correction=0).allclose(torch.ones(3, dtype=torch.float64))


def test_features_of_fewer_directions_have_no_other_scores() -> None:
    assert main_directions(torch.randn(50, 2)).shape == (50, 3)
    assert main_directions(torch.ones(50, 5)).abs().max() < 1e-3


def test_the_same_features_in_other_axes_get_the_colours_they_had() -> None:
    features = torch.randn(300, 8) * torch.tensor([4.0, 3.9, 3.8, 1, 1, 1, 1, 1])
    before = main_directions(features)
    rotation = torch.linalg.qr(torch.randn(8, 8))[0]
    swapped = main_directions(features @ rotation)[:, [2, 0, 1]] * torch.tensor([1, -1, 1])
    torch.testing.assert_close(turned(swapped, before), before, atol=1e-3, rtol=1e-3)


def test_colours_are_grey_at_the_mean() -> None:
    assert colours(torch.zeros(1, 3)).tolist() == [[0.5, 0.5, 0.5]]
    assert colours(torch.tensor([[9.0, -9, 0]])).tolist() == [[1.0, 0.0, 0.5]]


def test_two_groups_explain_what_lies_between_their_means() -> None:
    groups = torch.tensor([True, True, False, False])
    apart = torch.tensor([[1.0, 0, 0], [1, 0, 0], [-1, 0, 0], [-1, 0, 0]])
    assert explained_by(apart, groups) == pytest.approx(1)
    half = apart + torch.tensor([[0.0, 1, 0], [0, -1, 0], [0, 1, 0], [0, -1, 0]])
    assert explained_by(half, groups) == pytest.approx(0.5)
    assert explained_by(torch.zeros(4, 3), groups) == 0


def test_the_picture_shows_photos_above_their_features_row_by_row(tmp_path: Path) -> None:
    photos = [np.full((32, 40, 3), shade, np.uint8) for shade in (0, 255)]
    grey, bright = np.zeros((2, 2, 3)), np.full((2, 2, 3), 9.0)
    draw_features(photos, {"before": [grey, grey], "now": [grey, bright]}, tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.format == "PNG"
        rgb = np.asarray(picture).astype(int)
    middles = [[rgb[top + 40, left + 26] for left in (0, 46)] for top in (0, 56, 112)]
    shades = [[pixel.tolist() for pixel in row] for row in middles]
    assert shades == [[[0] * 3, [255] * 3], [[128] * 3] * 2, [[128] * 3, [255] * 3]]
