"""Compiled encoders give what plain ones give; where compilation fails, training goes on."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

import cp2fast
from cp2fast.batch import CopyPasteBatch
from cp2fast.bench.train import random_pairs
from cp2fast.config import ModelSettings, PretrainSettings, TrainSettings
from cp2fast.model.backbone import build_backbone, channels
from cp2fast.model.cp2 import CP2
from cp2fast.model.head import FcnHead
from cp2fast.model.segmenter import Segmenter
from cp2fast.pretrain.learner import contrast
from cp2fast.train.compile import compile_encoders
from cp2fast.train.learner import Learner
from tests.pretrain.runs import TINY, write_photos

BATCH = random_pairs(4, 32, torch.device("cpu"), torch.float32)


CPU, GPU = torch.device("cpu"), torch.device("cuda")


def new_learner(device: torch.device = CPU, **train: object) -> Learner[CP2, CopyPasteBatch]:
    """Of one block, as every block is compiled anew."""
    torch.manual_seed(0)
    backbone = build_backbone("test_vit", 32, depth=1)
    encoder = Segmenter(backbone, FcnHead(channels(backbone), 16, 8, 21))
    network = CP2(encoder, ModelSettings(embedding=8, size=32, queue=16))
    settings = TrainSettings(precision="fp32", **train)
    return Learner(network, network.encoder_q.parameters(), contrast, settings, device)


def loss(learner: Learner[CP2, CopyPasteBatch]) -> float:
    return contrast(learner.network, BATCH, 0, 0).loss.item()


def losses(learner: Learner[CP2, CopyPasteBatch], steps: int) -> list[float]:
    batches = [BATCH.to(learner.device)] * learner.accumulate
    return [output.loss.item() for _ in range(steps) for output in learner.step(iter(batches))]


def compiled(learner: Learner[CP2, CopyPasteBatch], setting: str, said: list[str]) -> bool:
    return compile_encoders(learner, setting, BATCH.query.to(learner.device), said.append)


def test_auto_leaves_the_cpu_alone() -> None:
    said: list[str] = []
    assert not compiled(new_learner(), "auto", said)
    assert said == []


@pytest.mark.slow
def test_compiling_changes_no_weight_and_no_result() -> None:
    learner, said = new_learner(), []
    network = learner.network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert compiled(learner, "on", said)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert said == []
    assert loss(learner) == pytest.approx(loss(new_learner()), rel=1e-5)


def test_every_size_of_a_growing_resolution_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo's own work, for that is what its limit is about; the code it makes is not."""
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="eager"))
    torch.compiler.reset()
    counters.clear()
    learner = new_learner()
    network = learner.network
    assert compiled(learner, "on", [])
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
    learner, said = new_learner(), []
    assert not compiled(learner, "on", said)
    [line] = said
    assert line.startswith("torch.compile does not work here (")
    assert "\n" not in line
    assert loss(learner) == loss(new_learner())


class Code:
    """What a compiler makes of a graph: the graph itself, or what fails when it is run."""

    def __init__(self, graph: Callable[..., Any], failure: type[Exception] | None) -> None:
        self.graph, self.failure = graph, failure

    def __call__(self, *inputs: Any) -> Any:
        if self.failure is not None:
            raise self.failure("no such instruction")
        return self.graph(*inputs)


def compile_to_code(
    monkeypatch: pytest.MonkeyPatch, failure: type[Exception] | None = None
) -> WeakSet[Code]:
    """Let torch compile to ``Code``; returns all of it that is still in memory."""
    held: WeakSet[Code] = WeakSet()

    def backend(graph: Callable[..., Any], inputs: object, **options: object) -> Code:
        code = Code(graph, failure)
        held.add(code)
        return code

    torch.compiler.reset()
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend=backend))
    return held


def test_code_that_fails_is_forgotten_with_the_memory_that_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = compile_to_code(monkeypatch, RuntimeError)
    learner, said = new_learner(), []
    assert not compiled(learner, "on", said)
    assert "no such instruction" in said[0]
    assert not held
    assert "embed" not in vars(learner.network.encoder_q)


@pytest.mark.parametrize("failure", [MemoryError, torch.OutOfMemoryError])
def test_memory_that_runs_out_is_not_blamed_on_the_compiler(
    monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    compile_to_code(monkeypatch, failure)
    with pytest.raises(failure):
        compiled(new_learner(), "on", [])


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_when_a_run_ends_what_it_compiled_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: bool
) -> None:
    held, in_the_run = compile_to_code(monkeypatch), []

    def follow(row: Mapping[str, Any]) -> None:
        in_the_run.append(len(held))
        if fails:
            raise InterruptedError

    data = f"data.root={write_photos(tmp_path / 'photos', 4)}"
    words = [*TINY, data, "train.steps=1", "train.compile=on"]
    with pytest.raises(InterruptedError) if fails else nullcontext():
        run = cp2fast.pretrain(PretrainSettings(), words, out=tmp_path / "run", on_row=follow)
        assert "embed" not in vars(run.task.network.encoder_q)
    assert in_the_run == [2]
    assert not held


@pytest.mark.gpu
@pytest.mark.parametrize(("batches_per_step", "is_recorded"), [(1, True), (2, False)])
def test_on_a_gpu_steps_of_one_batch_replay_cuda_graphs(
    batches_per_step: int, is_recorded: bool
) -> None:
    learner = new_learner(GPU, gradient_accumulation_steps=batches_per_step)
    plain, said = new_learner(GPU, gradient_accumulation_steps=batches_per_step), []
    assert compiled(learner, "on", said)
    assert said == []
    # Products in TF32 round to three digits.
    assert losses(learner, 4) == pytest.approx(losses(plain, 4), rel=1e-2)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        losses(learner, 1)
    launched = {event.name for event in profiler.events()}
    assert ("cudaGraphLaunch" in launched) == is_recorded
