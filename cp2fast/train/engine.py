"""The training loop: step, check, log, evaluate, save.

Its only state besides the task's is the step: order, augmentation and schedule are pure functions
of (seed, step), so a resumed run gives the same result as one that was never stopped. The loop
waits for the device only when a step is logged or saved (and in each step of SGD in float16), and
for the other processes only when a step is logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from cp2fast.errors import UserError
from cp2fast.run_folder import BEST, checkpoint_name, read_metrics
from cp2fast.train.accounts import Accounts, shares_of
from cp2fast.train.advice import Advice
from cp2fast.train.batches import Loaded
from cp2fast.train.checkpoint import Saver
from cp2fast.train.curves import draw_curves
from cp2fast.train.failures import explained
from cp2fast.train.finite import BadStep, LossRecord, all_finite
from cp2fast.train.interrupt import StopAsked, stop_requests
from cp2fast.train.learner import mean_loss
from cp2fast.train.loggers import Log
from cp2fast.train.metrics import metrics_log
from cp2fast.train.run import Run
from cp2fast.train.watchdog import Doing, Watchdog

_NAMED = 3
"""How many images of a broken step are named."""


def train(run: Run[Any], accounts: Accounts, on_row: Log | None = None) -> None:
    """Train from ``run.step`` to the end, writing metrics, checkpoints and pictures to its folder.

    A run that is asked to stop is saved before its end; ``run.is_complete`` tells.

    Args:
        run: the run; updated in place.
        accounts: time accounts, charging ``start``.
        on_row: called with each row of ``metrics.jsonl``, in the main process.

    Raises:
        UserError: too many images cannot be read, the loss is not a number, or memory or disk is
            full. Checkpoints written before are intact.
    """
    folder, processes, settings = run.folder, run.processes, run.task.settings.train
    keep = settings.keep_last, run.keep_every
    with (
        explained(run),
        closing(Saver(folder.checkpoints, processes.device, *keep)) as saver,
        closing(Watchdog(processes.ranks, settings.timeout_minutes)) as watchdog,
        processes.agreement.watched(),
        stop_requests() as stop_requested,
        metrics_log(run, on_row) as log,
    ):
        Engine(run, accounts, saver, watchdog, log, stop_requested).train()


class Due(NamedTuple):
    """What to do at the end of a step; the same on all processes."""

    log: bool
    evaluate: bool
    save: bool


@dataclass
class Engine:
    """One process's part of a run; see ``train``.

    Attributes:
        saver: writes the run's checkpoints.
        watchdog: notified of each part of a step.
        log: writes the rows of ``metrics.jsonl``.
        stop_requested: whether this process was asked to stop.
    """

    run: Run[Any]
    accounts: Accounts
    saver: Saver
    watchdog: Watchdog
    log: Log
    stop_requested: Callable[[], bool]

    def __post_init__(self) -> None:
        """Set up the state of a loop that has trained nothing yet."""
        self.task, self.learner = self.run.task, self.run.task.learner
        self.agreement, self.is_main = self.run.processes.agreement, self.run.processes.is_main
        self.console = self.run.processes.console
        self.advice = Advice()
        self.losses = LossRecord(self.run.processes.ranks.rank)
        self.images: list[int] = []
        self.first_step = self.logged_step = self.run.step
        self.evaluated_step: int | None = None
        self.saved_owing = self.run.owes_evaluation
        self.save_asked = time.monotonic()
        self.stopping = False

    def train(self) -> None:
        """See the function ``train``."""
        run = self.run
        if run.has_steps_left and self._prepare():
            if run.owes_evaluation:
                self._evaluate()
            with closing(self.task.batches(run.step, self.task.total_steps)) as batches:
                self._take_steps(batches)
            self.agreement.finish()
        if not run.has_steps_left and self.evaluated_step != run.step:
            self._evaluate()
        if run.is_complete:
            self._draw(complete=True)
            if self.saved_owing:
                self._save_step()
        with self.accounts.on("save"):
            self.saver.wait()
        self.accounts.lap()

    def _prepare(self) -> bool:
        """Whether the task was prepared, rather than the run asked to stop meanwhile."""
        try:
            self.task.prepare(self.run.step, self._alive_or_stop_together)
        except StopAsked:
            return False
        return True

    def _take_steps(self, batches: Iterator[Loaded[Any]]) -> None:
        while self.run.has_steps_left and not self.stopping:
            outputs = self._step(batches)
            if not self.run.has_steps_left:  # the last evaluation follows the checkpoint
                self.run.owes_evaluation = self.task.evaluate_every is not None
            due = self._due()
            if due.log or due.evaluate or due.save or self.losses.is_full:
                self._refuse_broken(deeply=due.evaluate or due.save)
            if due.log:
                self._log(outputs)
            if due.evaluate:
                self._evaluate()
            if due.save or not self.run.has_steps_left:  # an evaluation may end the run
                self._save_step()
                if self.run.has_steps_left:
                    self._draw(complete=False)

    def _step(self, batches: Iterator[Loaded[Any]]) -> list[Any]:
        run, self.images = self.run, []
        self.learner.set_learning_rate(self.task.learning_rate(run.step))
        outputs: list[Any] = self.learner.step(self._batches_of_step(batches), run.step)
        run.step += 1
        if self.is_main and run.step == self.first_step + 1:
            self.saver.reserve(run.state_dict())  # the optimiser's state exists by now
        self.losses.note(run.step, mean_loss(outputs), self.images)
        return outputs

    def _batches_of_step(self, batches: Iterator[Loaded[Any]]) -> Iterator[Any]:
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
        step, settings, now = self.run.step, self.task.settings.train, time.monotonic()
        waited = now - self.save_asked >= 60 * settings.checkpoint_minutes
        clock = self.is_main and waited and self.saver.is_idle
        if clock:
            self.save_asked = now
        self.stopping, clock, failed = self.agreement.any_lately(
            self._stop_asked, clock, self.saver.has_failed
        )
        if failed:
            self.saver.wait()  # raises in the process that wrote
            raise SystemExit(2)
        is_last = not self.run.has_steps_left
        return Due(
            log=is_last or step % settings.log_every == 0,
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
            f"train.lr={self.task.settings.train.lr:g}, or set train.precision=fp32"
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
                self.console.print(f"warning at step {step}: {warning}")

    def _evaluate(self) -> None:
        run, evaluation, stopped = self.run, None, False
        self._alive()  # on all processes, also those that have nothing to evaluate
        with self.accounts.on("evaluate"):
            try:
                evaluation = self.task.evaluate(run.step, self._alive_or_stop)
            except StopAsked:
                stopped = True
            run.owes_evaluation, is_judged = self.agreement.any(stopped, evaluation is not None)
        if run.owes_evaluation:
            self.stopping = True
            self._save_step()
            return
        self.evaluated_step = run.step
        if not is_judged:
            return
        shares, self.logged_step = shares_of(self.accounts.lap()), run.step
        if evaluation is None:
            return  # the main process has it
        with self.accounts.on("log"):
            self.log({"step": run.step, **evaluation.scores, "time": shares})
            if run.has_steps_left:
                self.console.print(f"step {run.step}/{self.task.total_steps}  {evaluation.line}")
        if evaluation.is_best:
            self._save(BEST)

    def _save_step(self) -> None:
        self.saved_owing = self.run.owes_evaluation
        self._save(checkpoint_name(self.run.step))

    def _save(self, name: str) -> None:
        self.watchdog.note(self.run.step, Doing.SAVING)
        if self.is_main:
            with self.accounts.on("save"):
                self.saver.save(self.run.state_dict(), name)

    def _draw(self, complete: bool) -> None:
        if not self.is_main:
            return
        with self.accounts.on("log"):
            if complete:
                folder = self.run.folder
                draw_curves(read_metrics(folder.metrics), self.task.curves, folder.curves)
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

    def _alive_or_stop_together(self) -> None:
        self._alive()
        if any(self.agreement.any(self._stop_asked)):
            raise StopAsked


def _is_multiple(step: int, each: int | None) -> bool:
    return each is not None and step % each == 0
