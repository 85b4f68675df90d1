"""The interface between the engine and a task: pretraining or fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from cp2fast.config import FinetuneSettings, PretrainSettings
from cp2fast.train.accounts import Account
from cp2fast.train.learner import Learner

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Loaded(Generic[Batch]):
    """A batch that a separate CUDA stream may still be producing.

    Attributes:
        batch: dataclass or tuple of tensors for the network; use ``ready`` to get it.
        images: numbers of its images.
        made: event recorded when the GPU has produced it; None if there is nothing to wait for.
    """

    batch: Batch
    images: list[int]
    made: torch.cuda.Event | None = None

    def ready(self) -> Batch:
        """The batch; the current CUDA stream waits for it, this process does not."""
        if self.made is None:
            return self.batch
        stream = torch.cuda.current_stream()
        stream.wait_event(self.made)
        for tensor in _tensors(self.batch):
            if tensor.is_cuda:
                tensor.record_stream(stream)
        return self.batch


@dataclass(frozen=True)
class Pace:
    """What the engine knows about a logged step, over all processes.

    Attributes:
        step: steps done, from 1.
        epoch: passes over the images done, with fraction.
        lr: learning rate of this step.
        images_per_second: samples since the row before; the start does not count.
        data_wait: share of the time since the row before spent waiting for data.
        time: shares of that time by account, which add up to 1.
    """

    step: int
    epoch: float
    lr: float
    images_per_second: float
    data_wait: float
    time: dict[Account, float]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        scores: a row of ``metrics.jsonl``, beside its step and its time.
        score: what the best checkpoint is the best by; None keeps none.
        line: tells the user.
    """

    scores: Mapping[str, float]
    score: float | None
    line: str


class Task(Protocol[Batch]):
    """One kind of training: what its steps are, and what is logged, drawn and saved of them.

    Attributes:
        total_steps: number of steps of the whole run; an evaluation may end it earlier.
        steps_per_epoch: for ``epoch`` and ``train.checkpoint_epochs``.
        samples_per_step: over all batches and processes.
        images: how many there are to train on.
        peak_lr: the largest learning rate of the run.
    """

    total_steps: int
    steps_per_epoch: int
    samples_per_step: int
    images: int
    peak_lr: float

    @property
    def settings(self) -> PretrainSettings | FinetuneSettings:
        """As resolved."""

    @property
    def learner(self) -> Learner[Any, Batch]:
        """The network, and what moves its weights."""

    def initialise(self, say: Callable[[str], None]) -> None:
        """Load the weights that a new run starts from.

        Raises:
            UserError: they cannot be had, or the data cannot be trained on.
        """

    def prepare(self, step: int, say: Callable[[str], None], alive: Callable[[], None]) -> None:
        """Do what comes before the first step of this process, such as compiling.

        Args:
            step: steps done before.
            say: prints a line for the user.
            alive: to be called whenever something was done that may have taken a while.
        """

    def batches(self, start: int, stop: int) -> Generator[Loaded[Batch], None, None]:
        """This process's batches of the steps from ``start`` to ``stop``, made ahead."""

    def learning_rate(self, step: int) -> float:
        """Of the step after ``step`` steps."""

    def image_name(self, number: int) -> str:
        """What messages call an image."""

    def digest(self) -> str:
        """Of the names and sizes of the images: another data set has another one."""

    def measure(self, step: int, outputs: Sequence[Any]) -> dict[str, float]:
        """Numbers to be logged of this process's part of a step; waits for the device.

        Args:
            step: steps done.
            outputs: of ``learner``, of the step's batches.
        """

    def metrics(self, pace: Pace, means: Mapping[str, float]) -> Mapping[str, Any]:
        """A row of ``metrics.jsonl``.

        Args:
            pace: pace of the step.
            means: what ``measure`` gave, averaged over all processes.
        """

    def warnings(self, row: Mapping[str, Any]) -> Sequence[str]:
        """What this row, with those before it, shows to be wrong; each once."""

    def evaluation_due(self, step: int) -> bool:
        """Whether ``evaluate`` is to be called after this step; after the last it is always."""

    def evaluate(self, step: int, alive: Callable[[], None]) -> Evaluation | None:
        """Judge the network, on all processes together; None where there is nothing to judge.

        Args:
            step: steps done.
            alive: to be called whenever something was done that may have taken a while; raises
                ``StopAsked`` where the run is to stop, which is handed on, on all processes that
                talk to each other meanwhile.
        """

    def preview(self, batch: Batch) -> None:
        """Draw the first batch of the run; the main process only."""

    def pictures(self, step: int, complete: bool) -> None:
        """Draw the run as it is, at each checkpoint and at the end; the main process only.

        Args:
            step: steps done.
            complete: whether they were the last, and evaluated.
        """

    def state_dict(self) -> dict[str, Any]:
        """The network as ``model`` and whatever else must resume, beside the engine's own."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            UserError: it is of other data.
        """


def _tensors(batch: object) -> list[Tensor]:
    if is_dataclass(batch):
        return [getattr(batch, field.name) for field in fields(batch)]
    return list(batch)  # type: ignore[call-overload, no-any-return]
