"""The classifiers of frozen features, against plain numpy and scipy."""

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from cp2fast.probe.classify import (
    L2,
    NEIGHBOURS,
    TEMPERATURE,
    Cells,
    linear,
    nearest_neighbours,
    standardiser,
)


def cells(count: int, channels: int, classes: int, seed: int = 0) -> Cells:
    """Cells of mixed classes, some of them labelled in part."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, channels, generator=generator) * 3 + 1
    shares = torch.rand(count, classes, generator=generator) ** 4
    return Cells(features, shares / shares.sum(dim=1, keepdim=True).clamp(min=1))


def test_standard_features_have_mean_0_and_deviation_1_and_dead_channels_stay_finite() -> None:
    features = torch.randn(50, 3) * 7 - 2
    features[:, 1] = 5
    found = standardiser(features)(features)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(dim=0, correction=0)[[0, 2]], torch.ones(2))
    assert found.isfinite().all()


def test_the_nearest_neighbours_vote_with_the_weights_of_their_cosines() -> None:
    learned, asked = cells(60, 5, 3), torch.randn(4, 5) * 3
    found = nearest_neighbours(learned)(asked)
    features = learned.features.numpy().astype(np.float64)
    mean, deviation = features.mean(0), features.std(0)
    for query, votes in zip(asked.numpy(), found, strict=True):
        a, b = (query - mean) / deviation, (features - mean) / deviation
        cosines = b @ a / np.linalg.norm(b, axis=1) / np.linalg.norm(a)
        best = np.argsort(-cosines)[:NEIGHBOURS]
        weights = np.exp(cosines[best] / TEMPERATURE)
        expected = weights @ learned.shares.numpy()[best] / weights.sum()
        np.testing.assert_allclose(votes.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_few_cells_are_all_neighbours() -> None:
    learned = cells(3, 4, 2)
    assert nearest_neighbours(learned)(torch.randn(5, 4)).shape == (5, 2)


def test_the_linear_classifier_is_the_minimum_that_scipy_finds() -> None:
    learned = cells(80, 4, 3)
    found = linear(learned)(learned.features)
    features = learned.features.double().numpy()
    features = (features - features.mean(0)) / features.std(0)
    shares = learned.shares.double().numpy()

    def log_probabilities(flat: np.ndarray) -> np.ndarray:
        return log_softmax(features @ flat[:12].reshape(3, 4).T + flat[12:], axis=1)

    def loss(flat: np.ndarray) -> float:
        fit = -(shares * log_probabilities(flat)).sum() / shares.sum()
        return float(fit + 0.5 * L2 * (flat[:12] ** 2).sum())

    best = minimize(loss, np.zeros(15), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(found.numpy(), log_probabilities(best.x), atol=5e-3)


def test_fitting_again_gives_the_same() -> None:
    learned = cells(80, 4, 3)
    first, again = (linear(learned)(learned.features) for _ in range(2))
    assert torch.equal(first, again)
