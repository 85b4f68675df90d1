"""The training loop: step, check, log, evaluate, save.

Its only state besides the task's is the step: order, augmentation and schedule are pure functions
of (seed, step), so a resumed run gives the same result as one that was never stopped. The loop
waits for the device only when a step is logged or saved, and for the other processes only when a
step is logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Generic

from cp2fast.errors import UserError
from cp2fast.run_folder import BEST, checkpoint_name
from cp2fast.train.accounts import Accounts, shares_of
from cp2fast.train.advice import Advice
from cp2fast.train.checkpoint import Saver
from cp2fast.train.console import RunConsole
from cp2fast.train.failures import explained
from cp2fast.train.finite import BadStep, LossRecord, all_finite
from cp2fast.train.interrupt import StopAsked, stop_requests
from cp2fast.train.learner import mean_loss
from cp2fast.train.metrics import Log, metrics_log
from cp2fast.train.run import Run
from cp2fast.train.task import Batch, Loaded
from cp2fast.train.watchdog import Doing, Watchdog

_NAMED = 3
"""How many images of a broken step are named."""


def train(
    run: Run[Any], console: RunConsole, accounts: Accounts, on_row: Log | None = None
) -> bool:
    """Train from ``run.step`` to the end, writing metrics, checkpoints and pictures to its folder.

    Args:
        run: the run; updated in place.
        console: prints for the user.
        accounts: time accounts, charging ``start``.
        on_row: called with each row of ``metrics.jsonl``, in the main process.

    Returns:
        True if the run is complete, False if it was stopped before; it is saved either way.

    Raises:
        UserError: too many images cannot be read, the loss is not a number, or memory or disk is
            full. Checkpoints written before are intact.
    """
    folder, device, settings = run.folder, run.processes.device, run.task.settings.train
    with (
        explained(run),
        closing(Saver(folder.checkpoints, device, settings.keep_last, run.keep_every)) as saver,
        closing(Watchdog(run.processes.ranks, settings.timeout_minutes)) as watchdog,
        stop_requests() as stop_requested,
        metrics_log(run, console, on_row) as log,
    ):
        return Engine(run, console, accounts, saver, watchdog, log, stop_requested).train()


@dataclass(frozen=True)
class Due:
    """What to do at the end of a step; the same on all processes."""

    log: bool
    evaluate: bool
    save: bool


@dataclass
class Engine(Generic[Batch]):
    """One process's part of a run.

    Attributes:
        run: the run; updated in place.
        console: prints for the user.
        accounts: time accounts, charging ``start``.
        saver: saver of the run's checkpoints.
        watchdog: notified of each part of a step.
        log: writes the rows of ``metrics.jsonl``.
        stop_requested: whether this process was asked to stop.
    """

    run: Run[Batch]
    console: RunConsole
    accounts: Accounts
    saver: Saver
    watchdog: Watchdog
    log: Log
    stop_requested: Callable[[], bool]

    def __post_init__(self) -> None:
        """Set up the state of a loop that has trained nothing yet."""
        self.task, self.learner = self.run.task, self.run.task.learner
        self.agreement, ranks = self.run.processes.agreement, self.run.processes.ranks
        self.is_main, self.say = ranks.is_main, self.console.print
        self.advice = Advice()
        self.losses = LossRecord(ranks.rank)
        self.images: list[int] = []
        self.first_step = self.logged_step = self.run.step
        self.evaluated_step: int | None = None
        self.save_asked = time.monotonic()
        self.stopping = False

    def train(self) -> bool:
        """See ``train``."""
        if not self.run.is_complete:
            self.task.prepare(self.run.step, self.say, self._alive)
            if self.run.owes_evaluation:
                self._evaluate()
            with closing(self.task.batches(self.run.step, self.task.total_steps)) as batches:
                self._take_steps(batches)
            self.agreement.finish()
        if self.run.is_complete:
            if self.evaluated_step != self.run.step:
                self._evaluate()
            if not self.run.owes_evaluation:
                self._draw(complete=True)
        with self.accounts.on("save"):
            self.saver.wait()
        self.accounts.lap()
        return self.run.is_complete and not self.run.owes_evaluation

    def _take_steps(self, batches: Iterator[Loaded[Batch]]) -> None:
        while not self.run.is_complete and not self.stopping:
            outputs = self._step(batches)
            due = self._due()
            if due.log or due.evaluate or due.save or self.losses.is_full:
                self._refuse_broken(deeply=due.evaluate or due.save)
            if due.log:
                self._log(outputs)
            if due.evaluate:
                self._evaluate()
            if due.save or self.run.is_complete:  # an evaluation may end the run
                self._save(checkpoint_name(self.run.step))
                self._draw(complete=False)

    def _step(self, batches: Iterator[Loaded[Batch]]) -> list[Any]:
        self.images = []
        self.learner.set_learning_rate(self.task.learning_rate(self.run.step))
        outputs = self.learner.step(self._batches_of_step(batches), self.run.step)
        self.run.step += 1
        if self.is_main and self.run.step == self.first_step + 1:
            self.saver.reserve(self.run.state_dict())  # the optimiser's state exists by now
        self.losses.note(self.run.step, mean_loss(outputs), self.images)
        return outputs

    def _batches_of_step(self, batches: Iterator[Loaded[Batch]]) -> Iterator[Batch]:
        """Yield each batch once it is loaded; their image numbers go to ``self.images``."""
        for _ in range(self.learner.accumulate):
            self.watchdog.note(self.run.step, Doing.READING)
            self.accounts.wait_for_data()
            loaded = next(batches)
            batch = loaded.ready()
            self.accounts.switch("step")
            self.watchdog.note(self.run.step, Doing.COMPUTING)
            if self.run.step == 0 and not self.images and self.is_main:
                with self.accounts.on("log"):
                    self.task.preview(batch)
            self.images += loaded.images
            yield batch

    def _due(self) -> Due:
        """What is due after this step, agreed by the processes without waiting for each other."""
        step, train = self.run.step, self.task.settings.train
        now = time.monotonic()
        waited = now - self.save_asked >= 60 * train.checkpoint_minutes
        clock = self.is_main and waited and self.saver.is_idle
        if clock:
            self.save_asked = now
        self.stopping, clock, failed = self.agreement.any_lately(
            self._stop_asked, clock, self.saver.has_failed
        )
        if failed:
            self.saver.wait()  # raises in the process that wrote
            raise SystemExit(2)
        is_last = self.run.is_complete
        return Due(
            log=is_last or step % train.log_every == 0,
            evaluate=not is_last and _is_multiple(step, self.task.evaluate_every),
            save=is_last or self.stopping or clock or _is_multiple(step, self.run.keep_every),
        )

    def _refuse_broken(self, deeply: bool) -> None:
        """Stop a broken run before it is logged, evaluated or saved; all processes agree on it.

        Args:
            deeply: also check the weights: the last loss may be finite and its gradient not.

        Raises:
            UserError: in the main process; the others exit silently.
        """
        found = [bad for bad in self.agreement.gather(self.losses.check()) if bad is not None]
        if not found and deeply and not all_finite(self.learner.network.parameters()):
            everyones = [number for own in self.agreement.gather(self.images) for number in own]
            found = [BadStep(self.run.step, 0, everyones)]
        if not found:
            return
        if not self.is_main:
            raise SystemExit(2)
        first = min(found)
        names = ", ".join(self.task.image_name(number) for number in first.images[:_NAMED])
        raise UserError(
            f"training broke at {first} (beginning with {names}): the loss or its gradient is not "
            f"a number; nothing was saved since, so --resume continues before it: lower "
            f"train.lr={self.task.peak_lr:g}, or set train.precision=fp32"
        )

    def _log(self, outputs: list[Any]) -> None:
        """Log one row, the mean over all processes; reading the outputs waits for the device."""
        step, task = self.run.step, self.task
        with self.accounts.on("log"):
            own = task.measure(step, outputs)
            spent = self.accounts.lap()
            everyones = self.agreement.gather([*own.values(), *spent.values()])
            means = [*map(fmean, zip(*everyones, strict=True))]
            spent = dict(zip(spent, means[len(own) :], strict=True))
            shares, seconds = shares_of(spent), sum(spent.values()) - spent["start"]
            samples = task.samples_per_step * (step - self.logged_step)
            self.logged_step = step
            row = {
                "step": step,
                "epoch": step / task.steps_per_epoch,
                **dict(zip(own, means, strict=False)),
                "lr": task.learning_rate(step - 1),
                "images_per_second": samples / seconds,
                "data_wait": shares["data"],
                "time": shares,
            }
            self.log(row)
            for warning in [*task.warnings(row), *self.advice.hear(shares)]:
                self.say(f"warning at step {step}: {warning}")

    def _evaluate(self) -> None:
        run = self.run
        evaluation, stopped = None, False
        with self.accounts.on("evaluate"):
            try:
                evaluation = self.task.evaluate(run.step, self._alive_or_stop)
            except StopAsked:
                stopped = True
            run.owes_evaluation, is_judged = self.agreement.any(stopped, evaluation is not None)
        if run.owes_evaluation:
            self.stopping = True
            self._save(checkpoint_name(run.step))
            return
        self.evaluated_step = run.step
        if not is_judged:
            return
        shares, self.logged_step = shares_of(self.accounts.lap()), run.step
        if evaluation is None:
            return  # the main process has it
        with self.accounts.on("log"):
            self.log({"step": run.step, **evaluation.scores, "time": shares})
            if not run.is_complete:
                self.say(f"step {run.step}/{self.task.total_steps}  {evaluation.line}")
        if evaluation.score is not None and (run.best is None or evaluation.score >= run.best[0]):
            run.best = evaluation.score, run.step
            self._save(BEST)

    def _save(self, name: str) -> None:
        self.watchdog.note(self.run.step, Doing.SAVING)
        if self.is_main:
            with self.accounts.on("save"):
                self.saver.save(self.run.state_dict(), name)

    def _draw(self, complete: bool) -> None:
        if self.is_main:
            with self.accounts.on("log"):
                self.task.pictures(self.run.step, complete)

    @property
    def _stop_asked(self) -> bool:
        return self.stop_requested() or self.console.is_gone

    def _alive(self) -> None:
        self.watchdog.note(self.run.step, Doing.EVALUATING)

    def _alive_or_stop(self) -> None:
        self._alive()
        if self._stop_asked:
            raise StopAsked


def _is_multiple(step: int, each: int | None) -> bool:
    return each is not None and step % each == 0
