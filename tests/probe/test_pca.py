from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cp2fast.probe.pca import colours, draw_features, main_directions, turned


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


def test_the_picture_shows_photos_above_their_features(tmp_path: Path) -> None:
    photos = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 255)]
    draw_features(photos, [np.zeros((2, 2, 3)), np.ones((2, 2, 3))], "step 1", tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.format == "PNG"
