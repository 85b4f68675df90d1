"""Signals of an embedding's quality, without labels: rank, alignment, uniformity.

Unlike the loss, which may fall during a collapse, these reveal one. They are computed only at
logged steps, from vectors that the steps compute anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Signals:
    """The signals at one step of a run; each is a function of this file.

    Attributes:
        effective_rank: rank of the newest instance vectors in the queue, 1 to the channel count.
        effective_rank_dense: rank of the dense features at all positions of a batch.
    """

    effective_rank: float
    effective_rank_dense: float
    alignment: float
    uniformity: float


@dataclass(frozen=True)
class Vectors:
    """The embeddings of a batch, all unit vectors, without gradient.

    Attributes:
        query: instance vectors of the queries, ``[B, C]``.
        key: key embeddings, ``[B, C]``.
        dense: dense features of the queries, ``[B, C, X]``.
    """

    query: Tensor
    key: Tensor
    dense: Tensor


@torch.no_grad()
def signals(keys_NC: Tensor, batch: Vectors) -> Signals:
    """The signals of the instance vectors of many images and of a batch; waits for the device."""
    return Signals(
        effective_rank=effective_rank(keys_NC).item(),
        effective_rank_dense=effective_rank(batch.dense.movedim(1, -1).flatten(0, 1)).item(),
        alignment=alignment(batch.query, batch.key).item(),
        uniformity=uniformity(batch.query).item(),
    )


def effective_rank(vectors_NC: Tensor) -> Tensor:
    """Number of directions that the vectors use: RankMe (Garrido et al., ICML 2023, equation 1).

    It is the exponential of the entropy of the singular values, normalised to a sum of 1. It is 1
    if all vectors, which are not centred, lie on one line, and min(N, C) if all directions are used
    equally.

    Returns:
        A scalar in float64, on the CPU; 1 if all vectors are 0.
    """
    # In double precision, because noise in single-precision squares would count as directions.
    vectors = vectors_NC.double()
    gram = vectors.T @ vectors if vectors.shape[0] >= vectors.shape[1] else vectors @ vectors.T
    # A GPU is slower for the eigenvalues of such a small matrix, and takes seconds for the first.
    singular = torch.linalg.eigvalsh(gram.cpu()).clamp(min=0).sqrt()
    shares = singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny)
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def alignment(query_BC: Tensor, key_BC: Tensor) -> Tensor:
    """Mean squared distance of an image's two views: 0 if equal, 2 if orthogonal.

    Wang and Isola, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere", ICML 2020, with alpha 2. All vectors are unit vectors.
    """
    return (query_BC - key_BC).square().sum(dim=1).mean()


def uniformity(vectors_BC: Tensor) -> Tensor:
    """Logarithm of the mean Gaussian potential of all pairs, from the same paper, with t = 2.

    It is 0 if all vectors are equal, and lower the more evenly the unit vectors are spread over the
    sphere: near -4 (about -3.9 with 128 channels) for random vectors. It is 0 for a single vector.
    """
    if len(vectors_BC) < 2:
        return vectors_BC.new_zeros(())
    potential = -2 * torch.pdist(vectors_BC).square()
    return potential.logsumexp(dim=0) - math.log(len(potential))
