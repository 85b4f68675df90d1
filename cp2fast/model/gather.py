"""Exchanges between the ranks of a distributed run; a single process exchanges nothing.

All ranks must have batches of equal size. Nothing here has gradients: only keys are exchanged.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def shuffle(batch: Tensor) -> Tensor:
    """Deal the samples out to the ranks like cards, so that batch norm uses mixed batches.

    If a query and its key shared the batch statistics of the same samples, the network could
    recognise the pair by them (He et al., MoCo, CVPR 2020, section 3.3). Batches are in random
    order already, so a fixed deal mixes them as well as a random permutation. It moves one batch
    per rank, whereas gathering would move all batches to every rank.

    Sample j of rank r goes to rank (r + j) mod W of W; ``unshuffle`` reverses this.
    """
    if _world_size() == 1:
        return batch
    received = torch.empty_like(batch, memory_format=torch.contiguous_format)
    sent_to, from_ = _counts(len(batch))
    dist.all_to_all_single(received, batch[_deal(batch)].contiguous(), from_, sent_to)
    return torch.empty_like(batch).copy_(received)  # in the memory format of the input


def unshuffle(batch: Tensor) -> Tensor:
    """Undo ``shuffle``: each rank gets its own samples back in the original order."""
    if _world_size() == 1:
        return batch
    received = torch.empty_like(batch, memory_format=torch.contiguous_format)
    sent_to, from_ = _counts(len(batch))
    dist.all_to_all_single(received, batch.contiguous(), sent_to, from_)
    restored = torch.empty_like(received)
    restored[_deal(batch)] = received
    return restored


def gather(batch: Tensor) -> Tensor:
    """Concatenate the batches of all ranks, equally on each rank: ``[W * B, ...]``."""
    if _world_size() == 1:
        return batch
    gathered = batch.new_empty(_world_size() * len(batch), *batch.shape[1:])
    # The newer name, which gives no warning.
    exchange = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    exchange(gathered, batch.contiguous())
    return gathered


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _deal(batch: Tensor) -> Tensor:
    """Order of this rank's samples by their target rank."""
    target = (torch.arange(len(batch), device=batch.device) + dist.get_rank()) % _world_size()
    return target.argsort(stable=True)


def _counts(batch_size: int) -> tuple[list[int], list[int]]:
    """How many samples this rank sends to each rank, and receives from each."""
    world, rank = _world_size(), dist.get_rank()

    def count(source: int, target: int) -> int:
        return len(range((target - source) % world, batch_size, world))

    return [count(rank, r) for r in range(world)], [count(r, rank) for r in range(world)]
