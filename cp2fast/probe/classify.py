"""Two classifiers of frozen features: nearest neighbours and linear.

Both learn from cells, which are samples of an image's features with the shares of the classes
among their pixels, and predict class probabilities for the cells of other images. Both use features
that are standardised by the mean and deviation of the training cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Classifier: TypeAlias = Callable[[Tensor], Tensor]
"""Gives features ``[N, C]`` a value for each class, ``[N, K]``, larger for a more likely one."""

NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Temperature of the neighbours' votes, as in Wu et al., "Unsupervised feature learning via
non-parametric instance discrimination", CVPR 2018, and Caron et al., DINO, ICCV 2021."""
L2 = 1e-3
"""Half of this times the squared weights is added to the linear classifier's loss."""
_ITERATIONS = 150
_AT_ONCE = 4096
"""Number of cells compared with all references at once."""


class Cells(NamedTuple):
    """Features with labels.

    Attributes:
        features: features, float32 ``[N, C]``.
        shares: ``[N, K]``, shares of the classes among each cell's pixels; a row adds up to at
            most 1, and the rest is not labelled.
    """

    features: Tensor
    shares: Tensor

    def at(self, places: Tensor) -> Cells:
        """The cells at these places, or where a mask is True."""
        return Cells(self.features[places], self.shares[places])


def standardiser(features_NC: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that gives every channel of these features mean 0 and deviation 1."""
    deviation, mean = torch.std_mean(features_NC, dim=0, correction=0)
    return lambda others_NC: (others_NC - mean) / deviation.clamp(min=1e-6)


def nearest_neighbours(cells: Cells) -> Classifier:
    """Votes of the nearest cells by cosine, weighted by exp(cosine / temperature)."""
    standardise = standardiser(cells.features)
    references = F.normalize(standardise(cells.features), dim=1)

    def vote(features_NC: Tensor) -> Tensor:
        queries = F.normalize(standardise(features_NC), dim=1)
        cosines, places = (queries @ references.T).topk(min(NEIGHBOURS, len(references)), dim=1)
        weights = ((cosines - cosines[:, :1]) / TEMPERATURE).exp()
        votes_NK = torch.einsum("nj,njk->nk", weights, cells.shares[places])
        return votes_NK / weights.sum(dim=1, keepdim=True)

    return lambda features_NC: torch.cat(
        [vote(part) for part in torch.split(features_NC, _AT_ONCE)]
    )


def linear(cells: Cells) -> Classifier:
    """Multinomial logistic regression, which gives log-probabilities.

    L-BFGS minimises the cross-entropy with an L2 penalty; the minimum is unique.
    """
    standardise = standardiser(cells.features)
    features, shares = standardise(cells.features), cells.shares
    labelled = shares.sum()
    parameters = features.new_zeros(shares.shape[1], features.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [parameters],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def log_probabilities(standard_NC: Tensor) -> Tensor:
        weight, bias = parameters[:, :-1], parameters[:, -1]
        return torch.addmm(bias, standard_NC, weight.T).log_softmax(dim=1)

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = -(shares * log_probabilities(features)).sum() / labelled
        total = fit + 0.5 * L2 * parameters[:, :-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call, arg-type, unused-ignore]
    parameters.requires_grad_(False)
    return lambda features_NC: log_probabilities(standardise(features_NC))
