"""Two classifiers of frozen features: nearest neighbours and linear.

Both learn from cells, which are samples of an image's features with the shares of the classes
among their pixels, and predict class probabilities for the cells of other images. Both use features
that are standardised by the mean and deviation of the training cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Temperature of the neighbours' votes, as in Wu et al., "Unsupervised feature learning via
non-parametric instance discrimination", CVPR 2018, and Caron et al., DINO, ICCV 2021."""
L2 = 1e-3
"""Half of this times the squared weights is added to the linear classifier's loss."""
_ITERATIONS = 150
_AT_ONCE = 4096
"""Number of cells compared with all references at once."""


@dataclass(frozen=True)
class Cells:
    """Features with labels.

    Attributes:
        features: features, float32 ``[N, C]``.
        shares: ``[N, K]``, shares of the classes among each cell's pixels; a row adds up to at
            most 1, and the rest is not labelled.
    """

    features: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Standard:
    """Standardises every channel to mean 0 and deviation 1; both are ``[C]``."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of(features_NC: Tensor) -> Standard:
        """Compute mean and deviation of these features."""
        deviation, mean = torch.std_mean(features_NC, dim=0, correction=0)
        return Standard(mean, deviation.clamp(min=1e-6))

    def __call__(self, features_NC: Tensor) -> Tensor:
        """The standardised features."""
        return (features_NC - self.mean) / self.deviation


@dataclass(frozen=True)
class Neighbours:
    """Votes of the nearest cells by cosine, weighted by exp(cosine / temperature)."""

    standard: Standard
    references: Tensor
    shares: Tensor

    @staticmethod
    def fit(cells: Cells) -> Neighbours:
        """Store the cells as references."""
        standard = Standard.of(cells.features)
        references = F.normalize(standard(cells.features), dim=1)
        return Neighbours(standard, references, cells.shares)

    def __call__(self, features_NC: Tensor) -> Tensor:
        """Votes ``[N, K]``, larger for a more likely class."""
        queries = F.normalize(self.standard(features_NC), dim=1)
        return torch.cat([self._votes(part) for part in torch.split(queries, _AT_ONCE)])

    def _votes(self, queries_NC: Tensor) -> Tensor:
        count = min(NEIGHBOURS, len(self.references))
        cosines, places = (queries_NC @ self.references.T).topk(count, dim=1)
        weights = ((cosines - cosines[:, :1]) / TEMPERATURE).exp()
        return torch.einsum("nj,njk->nk", weights, self.shares[places]) / weights.sum(
            dim=1, keepdim=True
        )


@dataclass(frozen=True)
class Linear:
    """Multinomial logistic regression."""

    standard: Standard
    weight: Tensor
    bias: Tensor

    @staticmethod
    def fit(cells: Cells) -> Linear:
        """Minimise the cross-entropy with an L2 penalty by L-BFGS; the minimum is unique."""
        standard = Standard.of(cells.features)
        features, shares = standard(cells.features), cells.shares
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

        def loss() -> Tensor:
            optimizer.zero_grad()
            weight, bias = parameters[:, :-1], parameters[:, -1]
            logits = torch.addmm(bias, features, weight.T)
            fit = -(shares * logits.log_softmax(dim=1)).sum() / labelled
            total = fit + 0.5 * L2 * weight.square().sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        with torch.enable_grad():
            optimizer.step(loss)  # type: ignore[no-untyped-call, arg-type, unused-ignore]
        found = parameters.detach()
        return Linear(standard, found[:, :-1].clone(), found[:, -1].clone())

    def __call__(self, features_NC: Tensor) -> Tensor:
        """Log-probabilities ``[N, K]``."""
        logits = torch.addmm(self.bias, self.standard(features_NC), self.weight.T)
        return logits.log_softmax(dim=1)
