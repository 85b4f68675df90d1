"""Two real processes under gloo against one process that holds both batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from cp2fast.config import ModelSettings
from cp2fast.model.cp2 import CP2, build_cp2
from cp2fast.model.gather import gather, shuffle, unshuffle
from tests.processes import two_ranks

RANKS = 2
SAMPLES = 3  # a rank and batch: not a multiple of the ranks
STEPS = 2
SETTINGS = ModelSettings(
    backbone="resnet18", head="fcn", head_channels=16, embedding=8, size=64, queue=16
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes saw."""
    folder = tmp_path_factory.mktemp("ranks")
    script = "import sys; from tests.model.test_gather import run_rank; run_rank(sys.argv[1])"
    processes = two_ranks(folder, script=script)
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def run_rank(folder: str) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    numbers = 10 * rank + torch.arange(SAMPLES)
    seen: dict[str, Any] = {
        "shuffled": shuffle(numbers),
        "unshuffled": unshuffle(shuffle(numbers)),
        "gathered": gather(numbers),
    }
    mine = slice(rank * SAMPLES, (rank + 1) * SAMPLES)
    cp2 = new_cp2()
    cp2(*(tensor[mine] for tensor in whole_batch(0)))
    seen["trained_batch_norm"] = cp2.state_dict()
    cp2 = new_cp2().eval()
    seen["losses"] = train(cp2, DistributedDataParallel(cp2, broadcast_buffers=False), mine)
    seen["state"] = cp2.state_dict()
    torch.save(seen, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def new_cp2() -> CP2:
    return build_cp2(SETTINGS, seed=0).double()


def whole_batch(step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    samples = RANKS * SAMPLES
    query, key = torch.randn(2, samples, 3, 64, 64, generator=generator, dtype=torch.float64)
    query_mask, key_mask = torch.zeros(2, samples, 64, 64, dtype=torch.bool)
    query_mask[:, :50, 5:] = True
    key_mask[:, 10:, :50] = True
    return query, key, query_mask, key_mask


def train(cp2: CP2, network: torch.nn.Module, mine: slice) -> list[Tensor]:
    optimizer = torch.optim.SGD(cp2.encoder_q.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(STEPS):
        output = network(*(tensor[mine] for tensor in whole_batch(step)))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.detach())
    return losses


def test_samples_are_dealt_to_the_ranks_and_come_back(ranks: list[dict[str, Any]]) -> None:
    assert [r["shuffled"].tolist() for r in ranks] == [[0, 2, 11], [1, 10, 12]]
    assert [r["unshuffled"].tolist() for r in ranks] == [[0, 1, 2], [10, 11, 12]]


def test_every_rank_gathers_the_same(ranks: list[dict[str, Any]]) -> None:
    assert [r["gathered"].tolist() for r in ranks] == [[0, 1, 2, 10, 11, 12]] * RANKS


def test_the_key_encoder_normalises_over_mixed_batches(ranks: list[dict[str, Any]]) -> None:
    _, key, _, key_mask = whole_batch(0)
    keys = torch.empty(RANKS * SAMPLES, SETTINGS.embedding, dtype=torch.float64)
    for rank, dealt in enumerate([[0, 2, 4], [1, 3, 5]]):  # 10, 11 and 12 above are 3, 4 and 5
        encoder = new_cp2().encoder_k
        dense = F.normalize(encoder.embed(key[dealt]), dim=1)
        mask = key_mask[dealt, None, 8::16, 8::16]
        keys[dealt] = F.normalize((dense * mask).sum(dim=(2, 3)), dim=1)
        torch.testing.assert_close(
            ranks[rank]["trained_batch_norm"]["encoder_k.backbone.bn1.running_mean"],
            encoder.backbone.bn1.running_mean,
        )
    for seen in ranks:
        torch.testing.assert_close(seen["trained_batch_norm"]["queue"][:, : len(keys)].T, keys)


def test_with_fixed_statistics_two_ranks_train_as_one_process(ranks: list[dict[str, Any]]) -> None:
    cp2 = new_cp2().eval()
    losses = train(cp2, cp2, slice(None))
    for step, loss in enumerate(losses):
        torch.testing.assert_close(sum(r["losses"][step] for r in ranks) / RANKS, loss)
    assert cp2.queue_ptr.item() == STEPS * RANKS * SAMPLES
    for seen in ranks:
        torch.testing.assert_close(seen["state"], cp2.state_dict())


def test_a_single_process_exchanges_nothing() -> None:
    batch = torch.arange(4)
    assert all(exchange(batch) is batch for exchange in (shuffle, unshuffle, gather))
