"""A run: how it begins, how it resumes from a checkpoint, and what a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from rich.console import RenderableType

from cp2fast import __version__, recipes
from cp2fast.config import FinetuneSettings, PretrainSettings
from cp2fast.errors import UserError, is_out_of_memory
from cp2fast.run_folder import RunFolder, atomic_write, newest_intact
from cp2fast.train.checkpoint import load_checkpoint
from cp2fast.train.loggers import check_loggers
from cp2fast.train.optimizer import restore_optimizer
from cp2fast.train.processes import Processes
from cp2fast.train.task import Task

Settings = TypeVar("Settings", PretrainSettings, FinetuneSettings)
AnyTask = TypeVar("AnyTask", bound=Task[Any])


@dataclass
class Run(Generic[AnyTask]):
    """A run's state, updated by the engine; ``step`` counts the steps done.

    Attributes:
        kind: ``pretrain`` or ``finetune``.
        owes_evaluation: whether an evaluation due after this step is not done yet: the last one of
            the run, or one that was interrupted by a stop.
    """

    kind: str
    folder: RunFolder
    processes: Processes
    task: AnyTask
    step: int = 0
    owes_evaluation: bool = False

    @property
    def has_steps_left(self) -> bool:
        """Whether not all steps are done."""
        return self.step < self.task.total_steps

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done and evaluated."""
        return not self.has_steps_left and not self.owes_evaluation

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
            self._check_same_data(state)
            learner = self.task.learner
            self.task.load_state_dict(state)
            restore_optimizer(learner.optimizer, state["optimizer"])
            if state.get("scaler"):  # empty except for a run in float16
                learner.scaler.load_state_dict(state["scaler"])
            self.step = int(state["step"])
            self.owes_evaluation = bool(state.get("owes_evaluation", False))
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the checkpoint in {self.folder.path} does not fit the run "
                f"({type(error).__name__}: {reason}): take it away to go back to the one before, "
                "or start another run with --out DIR"
            ) from error

    def _check_same_data(self, state: dict[str, Any]) -> None:
        task, settings, path = self.task, self.task.settings, self.folder.path
        if state.get("kind") != self.kind:
            raise UserError(
                f"the checkpoint in {path} is not one of this version's: start another run with "
                "--out DIR, from its weights with model.init"
            )
        if state["images"] != task.images:
            raise UserError(
                f"data.root={settings.data.root} holds {task.images} images, but the run in {path} "
                f"was begun with {state['images']}: restore them, or start another with --out DIR"
            )
        if state.get("digest", task.digest) != task.digest:
            raise UserError(
                f"data.root={settings.data.root} holds other images than those that the run in "
                f"{path} was started with, by their names and sizes: restore them, or start "
                "another with --out DIR"
            )
        samples = state.get("samples_per_step", task.samples_per_step)
        if samples != task.samples_per_step and state["step"] != task.total_steps:
            raise UserError(
                f"data.batch_size={settings.data.batch_size} x train.gradient_accumulation_steps="
                f"{settings.train.gradient_accumulation_steps} x {self.processes.ranks.world_size} "
                f"processes are {task.samples_per_step} samples a step, but the run in {path} was "
                f"begun with {samples}: keep that, or start another run with --out DIR"
            )


@dataclass(frozen=True)
class Kind(Generic[Settings, AnyTask]):
    """A kind of run.

    Attributes:
        name: value of ``kind`` in a checkpoint.
        command: command that begins such a run.
        fixed: prefixes of settings that must not change when a run is resumed; ``model.init`` may
            change, the number of samples per step may not.
        last_file: name of the file that the run folder gets last, when the run is complete.
        build: builds the task for the settings, its network with random weights.
        report: what to print in the main process once a run is complete.
        resolve: fills in settings that ``build`` would fill in.
    """

    name: str
    command: str
    fixed: tuple[str, ...]
    last_file: str
    build: Callable[[Settings, RunFolder, Processes], AnyTask]
    report: Callable[[Run[AnyTask]], Iterable[RenderableType]]
    resolve: Callable[[Settings], Settings] = lambda settings: settings


def open_run(
    kind: Kind[Settings, AnyTask],
    settings: Settings,
    folder: RunFolder,
    processes: Processes,
    resuming: bool,
) -> Run[AnyTask]:
    """A new run, or the run in ``folder`` as it was at its newest intact checkpoint or its start.

    The folder of a new run is created last, when nothing else can fail.

    Raises:
        UserError: bad input, damaged checkpoints, or settings of another run or of fewer steps than
            it has done. Nothing was overwritten; nothing new was written except the demo data.
    """
    newest, say = None, processes.console.print
    if resuming:
        settings = _settings_of_same_run(kind, settings, folder)
        newest = processes.agreement.of_main(lambda: newest_intact(folder.checkpoints, say))
    else:
        processes.agreement.of_main(folder.refuse_unless_new)
    check_loggers(settings.train.log)
    run = Run(kind.name, folder, processes, kind.build(settings, folder, processes))
    if newest is None:
        run.task.initialise()
    else:
        run.load_state_dict(load_checkpoint(newest))
    if resuming:
        _check_reaches(run)
    if processes.ranks.world_size > 1:
        run.task.learner.distribute()
    if not resuming:
        processes.agreement.of_main(lambda: folder.create(recipes.to_yaml(run.task.settings)))
    return run


def rewind(run: Run[Any]) -> None:
    """Remove what a resumed run had logged after its checkpoint; for the main process only."""
    run.folder.truncate_metrics(run.step, run.owes_evaluation)
    with atomic_write(run.folder.config) as file:
        file.write(recipes.to_yaml(run.task.settings).encode())


def with_values_found(settings: Settings, folder: RunFolder) -> Settings:
    """The settings with the range and the window that the run in ``folder`` found when it began.

    These are found where ``data.range`` is ``auto`` and where ``data.window`` is None.
    """
    if not folder.holds_run:
        return settings
    before = recipes.load(type(settings), str(folder.config), [])
    if settings.data.range == "auto":
        settings = settings.with_values("data", range=before.data.range)
    if isinstance(before, PretrainSettings) and settings.data.window is None:
        settings = settings.with_values("data", window=before.data.window)
    return settings


def _settings_of_same_run(
    kind: Kind[Settings, AnyTask], settings: Settings, folder: RunFolder
) -> Settings:
    """The settings to resume a run with, filled in as they were when it began.

    Raises:
        UserError: ``folder`` holds no run, or a fixed setting differs.
    """
    if not folder.holds_run:
        raise UserError(f"{folder.path} holds no run to resume: leave out --resume to start one")
    settings = with_values_found(kind.resolve(settings), folder)
    before = recipes.load(type(settings), str(folder.config), [])
    for key, old, new in recipes.differences(before, settings):
        if key.startswith(kind.fixed) and key != "model.init":
            raise UserError(
                f"{key}={new}, but the run in {folder.path} was started with {old}: "
                "keep it, or start another run with --out DIR"
            )
    return settings


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
