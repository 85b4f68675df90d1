"""The queue of keys, a ring buffer written in place (He et al., MoCo, CVPR 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def new_queue(channels: int, length: int) -> Tensor:
    """A queue ``[C, K]`` with random unit vectors as columns, from torch's generator."""
    return F.normalize(torch.randn(channels, length), dim=0)


@torch.no_grad()
def enqueue(queue_CK: Tensor, pointer: Tensor, keys_BC: Tensor) -> None:
    """Overwrite the oldest keys with ``keys_BC`` and advance the pointer.

    K need not be a multiple of B. If there are more than K keys, the last K are kept, at the
    positions that enqueueing one by one would give.

    Args:
        queue_CK: the queue; changed in place.
        pointer: int64 ``[1]``, position of the oldest key; changed in place.
        keys_BC: keys to add, oldest first.
    """
    length, count = queue_CK.shape[1], len(keys_BC)
    # Write only the newest K: index_copy_ with repeated positions has no defined order.
    surplus = max(0, count - length)
    places = (pointer + torch.arange(surplus, count, device=pointer.device)) % length
    queue_CK.index_copy_(1, places, keys_BC[surplus:].T)
    pointer.add_(count).remainder_(length)
