"""The two contrastive losses of CP2 (paper, sections 3.2 and 3.3) and metrics of a batch.

All are pure functions of tensors on one device, and none waits for the device. Masks are 1 on the
foreground and have the features' dtype.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_mask(mask_BSS: Tensor, stride: int) -> Tensor:
    """The mask at each cell's centre pixel: ``[B, S / stride, S / stride]``."""
    return mask_BSS[:, stride // 2 :: stride, stride // 2 :: stride]


def pool_instances(dense_BCX: Tensor, mask_BX: Tensor) -> Tensor:
    """One unit vector per image, the direction of its foreground's mean: ``[B, C]``."""
    return F.normalize(torch.einsum("bcx,bx->bc", dense_BCX, mask_BX), dim=1)


def instance_loss(
    query_BC: Tensor, key_BC: Tensor, queue_CK: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE of each query against its key and the queue (He et al., MoCo, CVPR 2020).

    All vectors are unit vectors. Only the query has a gradient, which is computed together with
    the loss. So the queue may be overwritten before the backward pass, and no copy is kept.

    Returns:
        The mean loss, and the logits ``[B, 1 + K]``, positive first, without gradient.
    """
    loss, logits = _InfoNCE.apply(  # type: ignore[no-untyped-call, unused-ignore]
        query_BC, key_BC, queue_CK, temperature
    )
    return loss, logits


class _InfoNCE(torch.autograd.Function):
    """``F.cross_entropy`` of the logits with target 0; keeps ``[B, C]`` for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, query_BC: Tensor, key_BC: Tensor, queue_CK: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        positive_B1 = (query_BC * key_BC).sum(dim=1, keepdim=True)
        logits = torch.cat([positive_B1, query_BC @ queue_CK], dim=1) / temperature
        log_probability = logits.log_softmax(dim=1)
        surplus = log_probability.exp()
        surplus[:, 0] -= 1
        grad_query_BC = surplus[:, :1] * key_BC + surplus[:, 1:] @ queue_CK.T
        ctx.save_for_backward(grad_query_BC / (temperature * len(query_BC)))
        ctx.mark_non_differentiable(logits)
        return -log_probability[:, 0].mean(), logits

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (grad_query_BC,) = ctx.saved_tensors
        return grad_loss * grad_query_BC, None, None, None


def similarities(query_BCX: Tensor, key_BCY: Tensor) -> Tensor:
    """Cosines ``[B, X, Y]`` of all pairs of positions, from dense unit vectors."""
    return query_BCX.transpose(1, 2) @ key_BCY


def positive_pairs(query_mask_BX: Tensor, key_mask_BY: Tensor) -> Tensor:
    """1 where both positions are foreground: ``[B, X, Y]``."""
    return query_mask_BX[:, :, None] * key_mask_BY[:, None, :]


def dense_loss(
    similarity_BXY: Tensor, positive_BXY: Tensor, axis: Literal["query", "key"]
) -> Tensor:
    """Negative mean log-probability of the positive pairs, averaged per image, then over the batch.

    There is no temperature. The original normalises over the query positions, including the
    background: ``axis`` is the positions that each softmax is computed over. An image without a
    positive pair counts as 0; in the original it gives NaN.
    """
    if axis not in ("query", "key"):
        raise ValueError(f"axis must be 'query' or 'key', not {axis!r}")
    log_probability = similarity_BXY.log_softmax(dim=1 if axis == "query" else 2)
    total_B = (log_probability * positive_BXY).sum(dim=(1, 2))
    return -(total_B / positive_BXY.sum(dim=(1, 2)).clamp(min=1)).mean()


def accuracy_instance(logits: Tensor) -> Tensor:
    """Fraction of queries whose own key is nearest; ``logits`` are those of ``instance_loss``."""
    return (logits.argmax(dim=1) == 0).to(logits.dtype).mean()


def accuracy_dense(similarity_BXY: Tensor, positive_BXY: Tensor) -> Tensor:
    """Fraction of images whose most similar pair of positions is positive."""
    best_B1 = similarity_BXY.flatten(1).argmax(dim=1, keepdim=True)
    return positive_BXY.flatten(1).gather(1, best_B1).mean()


def similarity_gap(similarity_BXY: Tensor, query_mask_BX: Tensor, key_mask_BY: Tensor) -> Tensor:
    """How much more similar the query's foreground is to the key's foreground than background.

    This is the mean cosine of the former pairs in the batch minus that of the latter.
    """

    def mean_over(key_BY: Tensor) -> Tensor:
        pairs_BXY = positive_pairs(query_mask_BX, key_BY)
        return (similarity_BXY * pairs_BXY).sum() / pairs_BXY.sum().clamp(min=1)

    return mean_over(key_mask_BY) - mean_over(1 - key_mask_BY)
