"""The engine with the smallest task there is: a line through points."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from cp2fast import recipes
from cp2fast.config import PretrainSettings
from cp2fast.errors import UserError
from cp2fast.run_folder import RunFolder, checkpoint_step, list_checkpoints
from cp2fast.train.accounts import Accounts
from cp2fast.train.checkpoint import load_checkpoint
from cp2fast.train.console import RunConsole
from cp2fast.train.distributed import Agreement, Ranks
from cp2fast.train.engine import train
from cp2fast.train.learner import learner_of
from cp2fast.train.run import Processes, Run
from cp2fast.train.task import Evaluation, Loaded

CPU, ALONE = torch.device("cpu"), Ranks(0, 1, 0)
SAMPLES, STEPS_PER_EPOCH = 8, 5


class Points(NamedTuple):
    x: Tensor
    y: Tensor


class Fit(NamedTuple):
    loss: Tensor


class Line:
    """A task whose points are a function of the step; ``broken`` steps have one at infinity."""

    def __init__(
        self, settings: PretrainSettings, broken: int | None = None, scores: Sequence[float] = ()
    ) -> None:
        self.settings = settings
        self.samples_per_step = SAMPLES * settings.train.gradient_accumulation_steps
        self.steps_per_epoch, self.images, self.peak_lr = STEPS_PER_EPOCH, 40, settings.train.lr
        self.total_steps = settings.train.steps or 1
        torch.manual_seed(0)
        line = nn.Linear(1, 1)
        self.learner = learner_of(line, line.parameters(), self.step, settings.train, CPU)
        self.broken, self.scores = broken, list(scores)
        self.evaluate_every = 3 if self.scores else None
        self.stopped_at: int | None = None
        self.drawn: list[tuple[int, bool]] = []

    def step(self, network: nn.Module, batch: Points, step: int, number: int) -> Fit:
        return Fit((network(batch.x) - batch.y).square().mean())

    def announcement(self, step: int) -> str:
        return f"a line from step {step}"

    def initialise(self, say: Callable[[str], None]) -> None: ...

    def prepare(self, step: int, say: Callable[[str], None], alive: Callable[[], None]) -> None: ...

    def batches(self, start: int, stop: int) -> Generator[Loaded[Points], None, None]:
        for step in range(start, stop):
            for number in range(self.settings.train.gradient_accumulation_steps):
                random = torch.Generator().manual_seed(100 * step + number)
                x = torch.rand(SAMPLES, 1, generator=random)
                y = 3 * x + 1
                if step + 1 == self.broken:
                    y[0] = torch.inf
                yield Loaded(Points(x, y), list(range(SAMPLES)))

    def learning_rate(self, step: int) -> float:
        return self.peak_lr

    def image_name(self, number: int) -> str:
        return f"point {number}"

    digest = "points"

    def measure(self, step: int, outputs: Sequence[Fit]) -> dict[str, float]:
        return {"loss": torch.stack([output.loss for output in outputs]).mean().item()}

    def warnings(self, row: Mapping[str, Any]) -> list[str]:
        return []

    def evaluate(self, step: int, alive: Callable[[], None]) -> Evaluation | None:
        if not self.scores:
            return None
        if step == self.stopped_at:
            self.stopped_at = None
            signal.raise_signal(signal.SIGTERM)
        alive()
        time.sleep(0.02)
        score = self.scores.pop(0)
        return Evaluation({"score": score}, score, f"score {score}")

    def preview(self, batch: Points) -> None:
        self.drawn.append((0, False))

    def pictures(self, step: int, complete: bool) -> None:
        self.drawn.append((step, complete))

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.learner.network.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.learner.network.load_state_dict(state["model"])


def run_of(folder: Path, task: Line) -> Run[Points]:
    run_folder = RunFolder(folder)
    if not run_folder.holds_run:
        run_folder.create(recipes.to_yaml(task.settings))
    return Run("pretrain", run_folder, Processes(ALONE, CPU, Agreement(ALONE, 1)), task)


def settings(**train: Any) -> PretrainSettings:
    return PretrainSettings.model_validate({"train": {"log_every": 1, "lr": 0.1, **train}})


def carry_out(run: Run[Points]) -> bool:
    return train(run, RunConsole(quiet=True), Accounts(CPU, time.perf_counter()))


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in found if name in row]


def test_a_run_learns_and_ends_with_one_checkpoint(tmp_path: Path) -> None:
    run = run_of(tmp_path, Line(settings(steps=200)))
    assert carry_out(run)
    losses = [row["loss"] for row in rows(tmp_path, "loss")]
    assert len(losses) == 200
    assert losses[-1] < 0.01 < losses[0]
    assert [checkpoint_step(p) for p in list_checkpoints(tmp_path / "checkpoints")] == [200]
    assert run.task.drawn == [(0, False), (200, False), (200, True)]


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    assert carry_out(run_of(tmp_path / "whole", Line(settings(steps=9))))
    assert carry_out(run_of(tmp_path / "parts", Line(settings(steps=4))))
    resumed = run_of(tmp_path / "parts", Line(settings(steps=9)))
    [path] = list_checkpoints(tmp_path / "parts" / "checkpoints")
    resumed.load_state_dict(load_checkpoint(path))
    assert resumed.step == 4
    assert carry_out(resumed)
    for name in ("loss", "epoch"):
        whole, parts = ([row[name] for row in rows(tmp_path / d, name)] for d in ("whole", "parts"))
        assert parts == whole


def test_an_accumulated_step_has_the_gradient_of_all_its_batches(tmp_path: Path) -> None:
    task = Line(settings(steps=1, gradient_accumulation_steps=3, momentum=0, weight_decay=0))
    line = nn.Linear(1, 1)
    line.load_state_dict(task.learner.network.state_dict())
    batches = [loaded.batch for loaded in task.batches(0, 1)]
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    loss = (line(x) - y).square().mean()
    loss.backward()
    assert carry_out(run_of(tmp_path, task))
    assert rows(tmp_path, "loss")[0]["loss"] == pytest.approx(loss.item())
    for moved, before in zip(task.learner.network.parameters(), line.parameters(), strict=True):
        torch.testing.assert_close(moved.detach(), (before - 0.1 * before.grad).detach())


def test_the_best_is_kept_and_every_row_accounts_for_its_time(tmp_path: Path) -> None:
    run = run_of(tmp_path, Line(settings(steps=10, log_every=4), scores=[0.2, 0.7, 0.7, 0.1]))
    assert carry_out(run)
    assert run.best == (0.7, 9)
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt")["step"] == 9
    assert [(row["step"], row["score"]) for row in rows(tmp_path, "score")] == [
        (3, 0.2), (6, 0.7), (9, 0.7), (10, 0.1),
    ]  # fmt: skip
    assert [row["step"] for row in rows(tmp_path, "loss")] == [4, 8, 10]
    for row in rows(tmp_path, "time"):
        assert sum(row["time"].values()) == pytest.approx(1, abs=0.001)
    assert all(row["time"]["evaluate"] > 0 for row in rows(tmp_path, "score"))
    assert all(row["time"]["evaluate"] == 0 for row in rows(tmp_path, "loss"))


@pytest.mark.parametrize("step", [3, 7])
def test_a_stop_in_an_evaluation_does_not_wait_for_it_and_it_is_made_on_resuming(
    tmp_path: Path, step: int
) -> None:
    scores = {3: 0.2, 6: 0.1, 7: 0.3}
    assert carry_out(run_of(tmp_path / "whole", Line(settings(steps=7), scores=[*scores.values()])))
    stopped = Line(settings(steps=7), scores=[*scores.values()])
    stopped.stopped_at = step
    run = run_of(tmp_path / "parts", stopped)
    assert not carry_out(run)
    assert run.step == step
    left = [score for at, score in scores.items() if at >= step]
    resumed = run_of(tmp_path / "parts", Line(settings(steps=7), scores=left))
    resumed.load_state_dict(
        load_checkpoint(list_checkpoints(tmp_path / "parts" / "checkpoints")[-1])
    )
    assert carry_out(resumed)
    for name in ("loss", "score"):
        whole, parts = (
            [(row["step"], row[name]) for row in rows(tmp_path / folder, name)]
            for folder in ("whole", "parts")
        )
        assert parts == whole
    assert resumed.best == (0.3, 7)


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_step_that_breaks_is_named_and_nothing_of_it_is_kept(
    tmp_path: Path, log_every: int
) -> None:
    task = Line(settings(steps=20, log_every=log_every, checkpoint_epochs=1), broken=7)
    with pytest.raises(UserError, match=r"step 7, images 0, 1.*point 0.*train\.lr=0\.1"):
        carry_out(run_of(tmp_path, task))
    assert [checkpoint_step(p) for p in list_checkpoints(tmp_path / "checkpoints")] == [5]
    assert all(row["step"] < 7 for row in rows(tmp_path, "loss"))


def test_weights_that_broke_in_the_last_step_are_not_saved(tmp_path: Path) -> None:
    """The loss is a number still, the update is not."""
    task = Line(settings(steps=3))
    task.learning_rate = lambda step: 1e38 if step == 2 else 0.1
    task.step = lambda network, batch, step, number: Fit(
        (network(batch.x) - batch.y).square().mean() * (1e10 if step == 2 else 1)
    )
    task.learner.forward = task.step
    with pytest.raises(UserError, match="broke at step 3"):
        carry_out(run_of(tmp_path, task))
    assert not list_checkpoints(tmp_path / "checkpoints")


def test_checkpoints_by_the_clock_never_overlap_and_the_newest_is_the_last(tmp_path: Path) -> None:
    task = Line(settings(steps=30, checkpoint_minutes=1e-9, keep_last=100))
    assert carry_out(run_of(tmp_path, task))
    saved = [checkpoint_step(p) for p in list_checkpoints(tmp_path / "checkpoints")]
    assert saved[-1] == 30
    assert len(saved) > 1
    for path in list_checkpoints(tmp_path / "checkpoints"):
        assert load_checkpoint(path)["step"] == checkpoint_step(path)
