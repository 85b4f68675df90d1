"""The smallest task that the engine can train: a line through points."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cp2fast import recipes
from cp2fast.config import PretrainSettings
from cp2fast.run_folder import RunFolder
from cp2fast.train.accounts import Accounts
from cp2fast.train.batches import Loaded
from cp2fast.train.engine import train
from cp2fast.train.learner import Learner
from cp2fast.train.processes import Processes
from cp2fast.train.run import Run
from cp2fast.train.task import Evaluation

CPU = torch.device("cpu")
SAMPLES, STEPS_PER_EPOCH = 8, 5


class Points(NamedTuple):
    x: Tensor
    y: Tensor


class Fit(NamedTuple):
    loss: Tensor


class Line:
    """A task whose points are a function of the step; ``broken`` steps have one at infinity."""

    curves = {"loss": ("loss",)}  # noqa: RUF012

    def __init__(
        self, settings: PretrainSettings, broken: int | None = None, scores: Sequence[float] = ()
    ) -> None:
        self.settings = settings
        self.samples_per_step = SAMPLES * settings.train.gradient_accumulation_steps
        self.steps_per_epoch, self.images = STEPS_PER_EPOCH, 40
        self.total_steps = settings.train.steps or 1
        torch.manual_seed(0)
        line = nn.Linear(1, 1)
        self.learner = Learner(line, line.parameters(), self.step, settings.train, CPU)
        self.broken, self.scores, self.best = broken, list(scores), 0.0
        self.evaluate_every = 3 if self.scores else None
        self.stopped_at: int | None = None
        self.drawn: list[tuple[int, bool]] = []

    def step(self, network: nn.Module, batch: Points, step: int, number: int) -> Fit:
        return Fit((network(batch.x) - batch.y).square().mean())

    def initialise(self) -> None: ...

    def prepare(self, step: int, alive: Callable[[], None]) -> None: ...

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
        return self.settings.train.lr

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
        is_best, self.best = score >= self.best, max(score, self.best)
        return Evaluation({"score": score}, f"score {score}", is_best)

    def preview(self, batch: Points) -> None:
        self.drawn.append((0, False))

    def pictures(self, step: int, complete: bool) -> None:
        self.drawn.append((step, complete))

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.learner.network.state_dict(), "best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.learner.network.load_state_dict(state["model"])
        self.best = state["best"]


def run_of(folder: Path, task: Line) -> Run[Line]:
    run_folder = RunFolder(folder)
    if not run_folder.holds_run:
        run_folder.create(recipes.to_yaml(task.settings))
    return Run("pretrain", run_folder, Processes.alone(CPU), task)


def settings(**train: Any) -> PretrainSettings:
    return PretrainSettings.model_validate({"train": {"log_every": 1, "lr": 0.1, **train}})


def carry_out(run: Run[Line]) -> bool:
    train(run, Accounts(CPU, time.perf_counter()))
    return run.is_complete
