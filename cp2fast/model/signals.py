"""Signals of what an embedding is worth, without labels: rank, alignment, uniformity.

A falling loss hides a collapse; these do not. They are computed at logged steps alone, from vectors
that the steps have made anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Signals:
    """Of one moment of a run.

    Attributes:
        effective_rank: of the newest instance vectors in the queue, 1 to the number of channels.
        effective_rank_dense: of the dense features of all places of a batch.
        alignment: of the two views of each image.
        uniformity: of a batch's instance vectors.
    """

    effective_rank: float
    effective_rank_dense: float
    alignment: float
    uniformity: float


@dataclass(frozen=True)
class Vectors:
    """What a batch was embedded as, all unit vectors, without gradient.

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
    """All signals; reading them waits for the device.

    Args:
        keys_NC: instance vectors of many images.
        batch: batch of a step.
    """
    return Signals(
        effective_rank=effective_rank(keys_NC).item(),
        effective_rank_dense=effective_rank(batch.dense.movedim(1, -1).flatten(0, 1)).item(),
        alignment=alignment(batch.query, batch.key).item(),
        uniformity=uniformity(batch.query).item(),
    )


def effective_rank(vectors_NC: Tensor) -> Tensor:
    """How many directions the vectors use: RankMe (Garrido et al., ICML 2023, equation 1).

    The exponential of the entropy of the singular values, which are made to add up to 1: 1 where
    all vectors lie on one line, min(N, C) where all directions are used equally.

    Args:
        vectors_NC: N vectors of C channels, not centred.

    Returns:
        A scalar in float64, on the CPU; 1 where all vectors are 0.
    """
    # In double precision: single precision's noise in the squares would count as directions.
    vectors = vectors_NC.double()
    gram = vectors.T @ vectors if vectors.shape[0] >= vectors.shape[1] else vectors @ vectors.T
    # A GPU takes longer for the eigenvalues of so small a matrix, and seconds for the first.
    singular = torch.linalg.eigvalsh(gram.cpu()).clamp(min=0).sqrt()
    shares = singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny)
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def alignment(query_BC: Tensor, key_BC: Tensor) -> Tensor:
    """Mean squared distance of the two views of an image: 0 where they agree, 2 at a right angle.

    Wang and Isola, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere", ICML 2020, with alpha 2. All vectors are unit vectors.
    """
    return (query_BC - key_BC).square().sum(dim=1).mean()


def uniformity(vectors_BC: Tensor) -> Tensor:
    """Logarithm of the mean Gaussian potential of all pairs, of the same paper, with t = 2.

    0 where all vectors are equal, lower the more evenly the unit vectors lie on the sphere: near -4
    (about -3.9 with 128 channels) where they lie as random ones do. 0 for a single vector.
    """
    if len(vectors_BC) < 2:
        return vectors_BC.new_zeros(())
    potential = -2 * torch.pdist(vectors_BC).square()
    return potential.logsumexp(dim=0) - math.log(len(potential))
