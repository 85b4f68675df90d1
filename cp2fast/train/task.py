"""The interface between the engine and a task: pretraining or fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cp2fast.config import FinetuneSettings, PretrainSettings
from cp2fast.train.batches import Batch, Loaded
from cp2fast.train.distributed import Ranks
from cp2fast.train.learner import Learner


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        scores: values for a row of ``metrics.jsonl``, besides step and time.
        line: one line for the user.
        is_best: whether to keep a checkpoint of it as the best of the run.
    """

    scores: Mapping[str, float]
    line: str
    is_best: bool = False


class Task(Protocol[Batch]):
    """One kind of training: its steps, and what is logged, drawn and saved.

    Attributes:
        total_steps: number of steps of the whole run; an evaluation may end it earlier.
        steps_per_epoch: steps per epoch, for ``epoch`` and ``train.checkpoint_epochs``.
        samples_per_step: samples per step over all batches and processes.
        images: number of training images.
        evaluate_every: steps from one evaluation to the next; None evaluates at the end only.
    """

    total_steps: int
    steps_per_epoch: int
    samples_per_step: int
    images: int
    evaluate_every: int | None

    @property
    def settings(self) -> PretrainSettings | FinetuneSettings:
        """The resolved settings."""

    @property
    def learner(self) -> Learner[Any, Batch]:
        """The network, and what updates its weights."""

    @property
    def curves(self) -> Mapping[str, Sequence[str]]:
        """The metrics in each panel of ``curves.png``, by its title."""

    def initialise(self) -> None:
        """Load the weights that a new run starts from.

        Raises:
            UserError: they are not available, or the data cannot be trained on.
        """

    def prepare(self, step: int, alive: Callable[[], None]) -> None:
        """Say what is about to be trained, and prepare for it, for example by compiling.

        Args:
            step: number of steps done before.
            alive: must be called after anything that may take a while, by all processes equally
                often. Raises ``StopAsked`` in all of them if the run is to stop.
        """

    def batches(self, start: int, stop: int) -> Generator[Loaded[Batch], None, None]:
        """This process's batches for the steps from ``start`` to ``stop``, prepared in advance."""

    def learning_rate(self, step: int) -> float:
        """Learning rate of the step that follows ``step`` steps."""

    def image_name(self, number: int) -> str:
        """Name of an image in messages."""

    @property
    def digest(self) -> str:
        """Digest of the images' names and sizes, which identifies the data set."""

    def measure(self, step: int, outputs: Sequence[Any]) -> dict[str, float]:
        """Numbers to log for this process's part of a step; waits for the device.

        Args:
            step: steps done.
            outputs: the outputs of ``learner`` for the step's batches.
        """

    def warnings(self, row: Mapping[str, Any]) -> Sequence[str]:
        """Problems that this row and earlier ones show, each reported once."""

    def evaluate(self, step: int, alive: Callable[[], None]) -> Evaluation | None:
        """Evaluate the network on all processes together; None if there is nothing to evaluate.

        Args:
            step: steps done.
            alive: must be called after anything that may take a while. Raises ``StopAsked`` if the
                run is to stop; the task must let it propagate, in all processes if they
                communicate during the evaluation.
        """

    def preview(self, batch: Batch) -> None:
        """Draw the first batch of the run; called in the main process only."""

    def pictures(self, step: int, complete: bool) -> None:
        """Draw the state of the run; called at checkpoints and the end, in the main process only.

        Args:
            step: steps done.
            complete: whether the run has done its last step and evaluation; its results are
                written too.
        """

    def state_dict(self) -> dict[str, Any]:
        """The network as ``model``, and other state of the task that a resumed run needs."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint.

        Raises:
            UserError: it belongs to other data.
        """


def samples_per_step(settings: PretrainSettings | FinetuneSettings, ranks: Ranks) -> int:
    """Samples per step over all batches and processes."""
    batch_size, accumulate = settings.data.batch_size, settings.train.gradient_accumulation_steps
    return batch_size * accumulate * ranks.world_size
