"""The engine with the smallest task there is: a line through points."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cp2fast.errors import UserError
from cp2fast.run_folder import checkpoint_step, list_checkpoints
from cp2fast.train.accounts import ACCOUNTS, Account, Accounts
from cp2fast.train.checkpoint import Saver, load_checkpoint
from cp2fast.train.engine import Engine, train
from cp2fast.train.metrics import metrics_log
from cp2fast.train.run import Run
from cp2fast.train.task import Evaluation
from cp2fast.train.watchdog import Watchdog
from tests.processes import two_ranks
from tests.train.clock import Clock
from tests.train.line import CPU, SAMPLES, Fit, Line, Points, carry_out, run_of, settings

TWO_RANKS = """
import json, sys, time
from pathlib import Path
from cp2fast.run_folder import RunFolder
from cp2fast.train.accounts import Accounts
from cp2fast.train.engine import train
from cp2fast.train.processes import joined_processes
from cp2fast.train.run import Run
from tests.train.line import CPU, Line, settings

class JudgedByOne(Line):
    def measure(self, step, outputs):
        return {"loss": float(processes.ranks.rank)}

    def evaluate(self, step, alive):  # as the probes of a pretraining
        if not processes.is_main:
            return None
        time.sleep(1)
        return super().evaluate(step, alive)

folder = RunFolder(Path(sys.argv[1]))
task = JudgedByOne(settings(steps=7, device="cpu"), scores=[0.1, 0.2, 0.3])
with joined_processes(task.settings.train, quiet=True) as processes:
    processes.agreement.of_main(lambda: folder.create(""))
    began = time.perf_counter()
    accounts = Accounts(CPU, began)
    train(Run("pretrain", folder, processes, task), accounts)
    found = {"seconds": time.perf_counter() - began, "shares": accounts.shares()}
    (folder.path / f"{processes.ranks.rank}.json").write_text(json.dumps(found))
"""


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in found if name in row]


def newest(folder: Path) -> Path:
    return list_checkpoints(folder / "checkpoints")[-1]


def resumed(folder: Path, task: Line) -> Run[Line]:
    run = run_of(folder, task)
    run.load_state_dict(load_checkpoint(newest(folder)))
    return run


def test_a_run_learns_and_ends_with_one_checkpoint(tmp_path: Path) -> None:
    run = run_of(tmp_path, Line(settings(steps=200)))
    assert carry_out(run)
    losses = [row["loss"] for row in rows(tmp_path, "loss")]
    assert len(losses) == 200
    assert losses[-1] < 0.01 < losses[0]
    assert [checkpoint_step(p) for p in list_checkpoints(tmp_path / "checkpoints")] == [200]
    assert run.task.drawn == [(0, False), (200, True)]


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    assert carry_out(run_of(tmp_path / "whole", Line(settings(steps=9))))
    assert carry_out(run_of(tmp_path / "parts", Line(settings(steps=4))))
    run = resumed(tmp_path / "parts", Line(settings(steps=9)))
    assert run.step == 4
    assert carry_out(run)
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
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt")["step"] == 9
    assert [(row["step"], row["score"]) for row in rows(tmp_path, "score")] == [
        (3, 0.2), (6, 0.7), (9, 0.7), (10, 0.1),
    ]  # fmt: skip
    assert [row["step"] for row in rows(tmp_path, "loss")] == [4, 8, 10]
    for row in rows(tmp_path, "time"):
        assert sum(row["time"].values()) == pytest.approx(1, abs=0.001)
    assert all(row["time"]["evaluate"] > 0 for row in rows(tmp_path, "score"))
    assert all(row["time"]["evaluate"] == 0 for row in rows(tmp_path, "loss"))


class TwoSeconds(Accounts):
    """Two seconds of steps in each lap, besides one of the start."""

    def lap(self) -> dict[Account, float]:
        super().lap()
        return dict.fromkeys(ACCOUNTS, 0.0) | {"step": 2.0, "start": 1.0}


def test_a_row_has_its_learning_rate_and_the_pace_since_the_row_or_evaluation_before(
    tmp_path: Path,
) -> None:
    task = Line(settings(steps=10, log_every=4), scores=[0.1, 0.2, 0.3, 0.4])  # at 3, 6, 9, 10
    task.learning_rate = lambda step: 0.1 / (1 + step)
    train(run_of(tmp_path, task), TwoSeconds(CPU, time.perf_counter()))
    found = [(row["step"], row["images_per_second"], row["lr"]) for row in rows(tmp_path, "loss")]
    assert found == [(4, SAMPLES / 2, 0.1 / 4), (8, SAMPLES, 0.1 / 8), (10, SAMPLES / 2, 0.1 / 10)]


@pytest.fixture(scope="module")
def of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose measured loss is the number of the rank."""
    out = tmp_path_factory.mktemp("two") / "run"
    ranks = two_ranks(out, script=TWO_RANKS)
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    return out


@pytest.mark.slow
def test_a_row_is_the_mean_over_the_ranks(of_two_ranks: Path) -> None:
    assert [row["loss"] for row in rows(of_two_ranks, "loss")] == [0.5] * 7


@pytest.mark.slow
def test_ranks_that_wait_for_the_evaluation_of_one_charge_it_to_evaluations(
    of_two_ranks: Path,
) -> None:
    for rank in (0, 1):
        found = json.loads((of_two_ranks / f"{rank}.json").read_text())
        assert sum(found["shares"].values()) == pytest.approx(1, abs=0.01)
        assert found["shares"]["evaluate"] * found["seconds"] > 2  # of three, some in other waits
    for row in rows(of_two_ranks, "time"):
        assert sum(row["time"].values()) == pytest.approx(1, abs=0.01)
        assert (row["time"]["evaluate"] > 0) == ("score" in row)


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
    assert carry_out(resumed(tmp_path / "parts", Line(settings(steps=7), scores=left)))
    for name in ("loss", "score"):
        whole, parts = (
            [(row["step"], row[name]) for row in rows(tmp_path / folder, name)]
            for folder in ("whole", "parts")
        )
        assert parts == whole
    assert load_checkpoint(tmp_path / "parts/checkpoints/best.pt")["step"] == 7
    assert resumed(tmp_path / "parts", Line(settings(steps=7))).is_complete


def test_a_run_that_is_extended_keeps_the_best_of_its_last_evaluation(tmp_path: Path) -> None:
    assert carry_out(run_of(tmp_path, Line(settings(steps=7), scores=[0.2, 0.3, 0.5])))
    longer = Line(settings(steps=10), scores=[0.4, 0.35])
    assert carry_out(resumed(tmp_path, longer))
    assert [row["score"] for row in rows(tmp_path, "score")] == [0.2, 0.3, 0.5, 0.4, 0.35]
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt")["step"] == 7


def test_a_run_that_dies_in_its_last_evaluation_is_saved_and_owes_it(tmp_path: Path) -> None:
    dying = Line(settings(steps=2), scores=[0.1])
    dying.evaluate = lambda step, alive: [][0]
    with pytest.raises(IndexError):
        carry_out(run_of(tmp_path, dying))
    run = resumed(tmp_path, Line(settings(steps=2), scores=[0.1]))
    assert (run.step, run.is_complete) == (2, False)


class OneTry(Line):
    """A line that is given up after its next evaluation."""

    def evaluate(self, step: int, alive: Callable[[], None]) -> Evaluation | None:
        found = super().evaluate(step, alive)
        self.total_steps = step
        return found


def test_an_owed_evaluation_that_ends_the_run_is_not_owed_any_longer(tmp_path: Path) -> None:
    stopped = OneTry(settings(steps=7), scores=[0.2])
    stopped.stopped_at = 3
    assert not carry_out(run_of(tmp_path, stopped))
    assert carry_out(resumed(tmp_path, OneTry(settings(steps=7), scores=[0.2])))
    assert not load_checkpoint(newest(tmp_path))["owes_evaluation"]


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


class WritesAtOnce(Saver):
    """Lets the training wait for each write, and so is always idle."""

    def reserve(self, state: dict[str, Any]) -> None:
        super().reserve(state)
        self.wait()

    def save(self, state: dict[str, Any], name: str) -> None:
        super().save(state, name)
        self.wait()


def test_checkpoints_by_the_clock_are_as_far_apart_as_asked(tmp_path: Path, clock: Clock) -> None:
    task = Line(settings(steps=10, checkpoint_minutes=3))
    run = run_of(tmp_path, task)

    def minute(network: nn.Module, batch: Points, step: int, number: int) -> Fit:
        clock.now += 60
        return task.step(network, batch, step, number)

    task.learner.forward = minute
    with (
        closing(WritesAtOnce(run.folder.checkpoints, CPU, keep=100)) as saver,
        closing(Watchdog(run.processes.ranks, timeout_minutes=1000)) as watchdog,
        metrics_log(run, None) as log,
    ):
        Engine(run, Accounts(CPU, clock.now), saver, watchdog, log, lambda: False).train()
    saved = [checkpoint_step(p) for p in list_checkpoints(tmp_path / "checkpoints")]
    assert saved == [3, 6, 9, 10]
