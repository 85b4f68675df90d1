"""The queue of keys: a ring buffer that is written in place (He et al., MoCo, CVPR 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def new_queue(channels: int, length: int) -> Tensor:
    """Random unit vectors in the columns, ``[C, K]``, from torch's generator."""
    return F.normalize(torch.randn(channels, length), dim=0)


@torch.no_grad()
def enqueue(queue_CK: Tensor, pointer: Tensor, keys_BC: Tensor) -> None:
    """Overwrite the oldest keys with ``keys_BC`` and move the pointer past them.

    K need not be a multiple of B. Of more than K keys the last K stay, at the places that
    enqueueing them one by one would have given them.

    Args:
        queue_CK: changed in place.
        pointer: int64 ``[1]``, the place of the oldest key; changed in place.
        keys_BC: oldest first.
    """
    length, count = queue_CK.shape[1], len(keys_BC)
    # Only the newest K are written: index_copy_ leaves the order of repeated places undefined.
    surplus = max(0, count - length)
    places = (pointer + torch.arange(surplus, count, device=pointer.device)) % length
    queue_CK.index_copy_(1, places, keys_BC[surplus:].T)
    pointer.add_(count).remainder_(length)
