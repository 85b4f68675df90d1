"""A run: how it begins, how it resumes from a checkpoint, and what a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from cp2fast import __version__, recipes
from cp2fast.config import FinetuneSettings, PretrainSettings
from cp2fast.errors import UserError
from cp2fast.run_folder import RunFolder, atomic_write, newest_intact
from cp2fast.train.checkpoint import load_checkpoint
from cp2fast.train.distributed import Agreement, Ranks
from cp2fast.train.loggers import check_loggers
from cp2fast.train.optimizer import restore_optimizer
from cp2fast.train.task import Batch, Task

Settings = TypeVar("Settings", PretrainSettings, FinetuneSettings)


@dataclass
class Processes:
    """The run's processes, this one's device, and their communication on the host."""

    ranks: Ranks
    device: torch.device
    agreement: Agreement


@dataclass(frozen=True)
class Kind(Generic[Settings]):
    """A kind of run.

    Attributes:
        name: value of ``kind`` in a checkpoint.
        command: command that begins such a run.
        fixed: prefixes of settings that must not change when a run is resumed; ``model.init`` may
            change, the number of samples per step may not.
        build: builds the task for the settings, its network with random weights.
    """

    name: str
    command: str
    fixed: tuple[str, ...]
    build: Callable[[Settings, RunFolder, Processes], Task[Any]]


@dataclass
class Run(Generic[Batch]):
    """A run's state, updated by the engine; ``step`` counts the steps done.

    Attributes:
        kind: ``pretrain`` or ``finetune``.
        best: the highest score of an evaluation so far, and its step.
        owes_evaluation: whether an evaluation due after this step was interrupted by a stop.
    """

    kind: str
    folder: RunFolder
    processes: Processes
    task: Task[Batch]
    step: int = 0
    best: tuple[float, int] | None = None
    owes_evaluation: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.task.total_steps

    @property
    def keep_every(self) -> int | None:
        """Checkpoints of multiples of this many steps are kept (``train.checkpoint_epochs``)."""
        epochs = self.task.settings.train.checkpoint_epochs
        return None if epochs is None else epochs * self.task.steps_per_epoch

    def state_dict(self) -> dict[str, Any]:
        """The content of a checkpoint, enough to resume the run bit for bit."""
        task, learner = self.task, self.task.learner
        return {
            "kind": self.kind,
            **task.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "scaler": learner.scaler.state_dict(),
            "step": self.step,
            "best": self.best,
            "owes_evaluation": self.owes_evaluation,
            "images": task.images,
            "digest": task.digest,
            "samples_per_step": task.samples_per_step,
            "settings": task.settings.model_dump(mode="json"),
            "versions": {"cp2fast": __version__, "torch": str(torch.__version__)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint of this version or the previous one.

        Raises:
            UserError: it belongs to another run or to other images.
        """
        try:
            _check_same_data(self, state)
            self._load(state)
        except torch.OutOfMemoryError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the checkpoint in {self.folder.path} does not fit the run "
                f"({type(error).__name__}: {reason}): take it away to go back to the one before, "
                "or start another run with --out DIR"
            ) from error

    def _load(self, state: dict[str, Any]) -> None:
        learner = self.task.learner
        self.task.load_state_dict(state)
        restore_optimizer(learner.optimizer, state["optimizer"])
        if state.get("scaler"):  # empty except for a run in float16
            learner.scaler.load_state_dict(state["scaler"])
        self.step = int(state["step"])
        self.best = tuple(state["best"]) if state.get("best") else None
        self.owes_evaluation = bool(state.get("owes_evaluation", False))


def begin(
    kind: Kind[Settings],
    settings: Settings,
    folder: RunFolder,
    processes: Processes,
    say: Callable[[str], None],
) -> Run[Any]:
    """Build a new run; its folder is created last, when nothing else can fail.

    Raises:
        UserError: bad input; nothing was written except the demo data.
    """
    is_main = processes.ranks.is_main
    check_loggers(settings.train.log)
    if is_main:
        folder.refuse_unless_new()
    run = Run(kind.name, folder, processes, kind.build(settings, folder, processes))
    run.task.initialise(say)
    if is_main:
        folder.create(recipes.to_yaml(run.task.settings))
    return _distributed(run)


def resume(
    kind: Kind[Settings],
    settings: Settings,
    folder: RunFolder,
    processes: Processes,
    say: Callable[[str], None],
) -> Run[Any]:
    """Build the run in ``folder`` as it was at its newest intact checkpoint, or at its start.

    Raises:
        UserError: there is no run, all checkpoints are damaged, or ``settings`` belong to another
            run or end before the step it has reached; the folder is unchanged.
    """
    settings = with_range_found(settings, folder)
    check_same_run(kind, settings, folder)
    check_loggers(settings.train.log)
    is_main = processes.ranks.is_main
    path = newest_intact(folder.checkpoints, say) if is_main else None
    path = processes.agreement.gather(path)[0]
    checkpoint = None if path is None else load_checkpoint(path)
    run = Run(kind.name, folder, processes, kind.build(settings, folder, processes))
    if checkpoint is None:
        run.task.initialise(say)
    else:
        run.load_state_dict(checkpoint)
    _check_reaches(run)
    return _distributed(run)


def rewind(run: Run[Any]) -> None:
    """Remove what a resumed run had logged after its checkpoint; for the main process only."""
    run.folder.truncate_metrics(run.step)
    with atomic_write(run.folder.config) as file:
        file.write(recipes.to_yaml(run.task.settings).encode())


def check_same_run(kind: Kind[Settings], settings: Settings, folder: RunFolder) -> None:
    """Refuse to resume a run with other settings.

    Raises:
        UserError: ``folder`` holds no run of this kind, or a fixed setting differs.
    """
    if not folder.holds_run:
        raise UserError(f"{folder.path} holds no run to resume: leave out --resume to start one")
    before = recipes.load(type(settings), str(folder.config), [])
    for key, old, new in recipes.differences(before, settings):
        if key.startswith(kind.fixed) and key != "model.init":
            raise UserError(
                f"{key}={new}, but the run in {folder.path} was started with {old}: "
                "keep it, or start another run with --out DIR"
            )


def with_range_found(settings: Settings, folder: RunFolder) -> Settings:
    """The settings with the range that ``data.range=auto`` found when the run began."""
    if settings.data.range != "auto" or not folder.holds_run:
        return settings
    before = recipes.load(type(settings), str(folder.config), [])
    return settings.with_values("data", range=before.data.range)


def _distributed(run: Run[Any]) -> Run[Any]:
    """Distribute the run over its processes; the weights must already be loaded."""
    if run.processes.ranks.world_size > 1:
        run.task.learner.distribute()
    return run


def _check_same_data(run: Run[Any], state: dict[str, Any]) -> None:
    task, settings, path = run.task, run.task.settings, run.folder.path
    if state.get("kind") != run.kind:
        raise UserError(
            f"the checkpoint in {path} is not one of this version's: start another run with "
            "--out DIR, from its weights with model.init"
        )
    if state["images"] != task.images:
        raise UserError(
            f"data.root={settings.data.root} holds {task.images} images, but the run in {path} was "
            f"begun with {state['images']}: restore them, or start another with --out DIR"
        )
    if state.get("digest", task.digest) != task.digest:
        raise UserError(
            f"data.root={settings.data.root} holds other images than those that the run in {path} "
            "was started with, by their names and sizes: restore them, or start another with "
            "--out DIR"
        )
    samples = state.get("samples_per_step", task.samples_per_step)
    if samples != task.samples_per_step and state["step"] < task.total_steps:
        raise UserError(
            f"data.batch_size={settings.data.batch_size} x train.gradient_accumulation_steps="
            f"{settings.train.gradient_accumulation_steps} x {run.processes.ranks.world_size} "
            f"processes are {task.samples_per_step} samples a step, but the run in {path} was "
            f"begun with {samples}: keep that, or start another run with --out DIR"
        )


def _check_reaches(run: Run[Any]) -> None:
    task = run.task
    if task.total_steps >= run.step:
        return
    name, value, least = "train.steps", task.total_steps, run.step
    if task.settings.train.steps is None:
        name, value = "train.epochs", task.total_steps // task.steps_per_epoch
        least = math.ceil(run.step / task.steps_per_epoch)
    raise UserError(
        f"the run in {run.folder.path} has reached step {run.step}, beyond {name}={value}: set "
        f"{name} to {least} or more, or start another run with --out DIR"
    )
