"""What the ranks of a distributed run exchange; a single process exchanges nothing.

All ranks must bring batches of one size. Nothing here is differentiated: only keys travel.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def shuffle(batch: Tensor) -> Tensor:
    """Deal the samples out to the ranks like cards, so that batch norm sees mixed batches.

    With batch statistics of the same samples for a query and its key, the network could tell the
    pair by them (He et al., MoCo, CVPR 2020, section 3.3). Batches are in random order already,
    so a fixed deal mixes them as well as a random permutation does, and moves one batch a rank
    where gathering would move all of them to every rank.

    Sample j of rank r goes to rank (r + j) mod W of W; ``unshuffle`` brings it back.
    """
    if _world_size() == 1:
        return batch
    received = torch.empty_like(batch, memory_format=torch.contiguous_format)
    sent_to, from_ = _counts(len(batch))
    dist.all_to_all_single(received, batch[_deal(batch)].contiguous(), from_, sent_to)
    return torch.empty_like(batch).copy_(received)  # in the memory format that it came in


def unshuffle(batch: Tensor) -> Tensor:
    """Undo ``shuffle``: each rank gets its own samples back, in their order."""
    if _world_size() == 1:
        return batch
    received = torch.empty_like(batch, memory_format=torch.contiguous_format)
    sent_to, from_ = _counts(len(batch))
    dist.all_to_all_single(received, batch.contiguous(), sent_to, from_)
    restored = torch.empty_like(received)
    restored[_deal(batch)] = received
    return restored


def gather(batch: Tensor) -> Tensor:
    """The batches of all ranks, one after another, the same on each: ``[W * B, ...]``."""
    if _world_size() == 1:
        return batch
    gathered = batch.new_empty(_world_size() * len(batch), *batch.shape[1:])
    # The newer name, by which torch calls it without a warning.
    exchange = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    exchange(gathered, batch.contiguous())
    return gathered


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _deal(batch: Tensor) -> Tensor:
    """This rank's samples in the order of the ranks they go to."""
    target = (torch.arange(len(batch), device=batch.device) + dist.get_rank()) % _world_size()
    return target.argsort(stable=True)


def _counts(batch_size: int) -> tuple[list[int], list[int]]:
    """How many samples this rank sends to each rank, and gets from each."""
    world, rank = _world_size(), dist.get_rank()

    def count(source: int, target: int) -> int:
        return len(range((target - source) % world, batch_size, world))

    return [count(rank, r) for r in range(world)], [count(r, rank) for r in range(world)]
