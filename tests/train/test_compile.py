"""Compiled encoders give what plain ones give; where compilation fails, training goes on."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from cp2fast.bench.train import random_pairs
from cp2fast.config import ModelSettings
from cp2fast.model.backbone import build_backbone, channels
from cp2fast.model.cp2 import CP2
from cp2fast.model.head import FcnHead
from cp2fast.model.segmenter import Segmenter
from cp2fast.train.compile import compile_encoders

BATCH = random_pairs(4, 32, torch.device("cpu"), torch.float32)


def new_network() -> CP2:
    """Of one block, as every block is compiled anew."""
    torch.manual_seed(0)
    backbone = build_backbone("test_vit", 32, depth=1)
    encoder = Segmenter(backbone, FcnHead(channels(backbone), 16, 8, 21))
    return CP2(encoder, ModelSettings(embedding=8, size=32, queue=16))


def loss(network: CP2) -> float:
    return network(BATCH.query, BATCH.key, BATCH.query_mask, BATCH.key_mask).loss.item()


def compiled(network: CP2, setting: str, said: list[str]) -> bool:
    return compile_encoders(network, setting, BATCH.query, torch.float32, said.append)


def test_auto_leaves_the_cpu_alone() -> None:
    said: list[str] = []
    assert not compiled(new_network(), "auto", said)
    assert said == []


@pytest.mark.slow
def test_compiling_changes_no_weight_and_no_result() -> None:
    network, said = new_network(), []
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert compiled(network, "on", said)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert said == []
    assert loss(network) == pytest.approx(loss(new_network()), rel=1e-5)


def test_every_size_of_a_growing_resolution_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo's own work, for that is what its limit is about; the code it makes is not."""
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="eager"))
    torch.compiler.reset()
    counters.clear()
    network = new_network()
    assert compiled(network, "on", [])
    sizes = [32 * n for n in range(2, 9)]  # more graphs than Dynamo allows by default
    for size in sizes:
        images = torch.zeros(4, 3, size, size)
        network.encoder_q.embed(images)
        with torch.no_grad():
            network.encoder_k.embed(images)
    tried = 1  # by compile_encoders
    assert counters["stats"]["unique_graphs"] == 2 * (tried + len(sizes))


def test_without_a_compiler_training_goes_on_and_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.compiler.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/no/such/compiler",))
    network, said = new_network(), []
    assert not compiled(network, "on", said)
    [line] = said
    assert line.startswith("torch.compile does not work here (")
    assert "\n" not in line
    assert loss(network) == loss(new_network())
