"""What all training commands do before and after the training itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from cp2fast.config import CommonTrainSettings
from cp2fast.run_folder import RunFolder, means_of_end_tenths, read_metrics
from cp2fast.train.accounts import Account, Accounts
from cp2fast.train.advice import of_whole_run
from cp2fast.train.console import RunConsole
from cp2fast.train.distributed import (
    Agreement,
    device_of,
    process_group,
    ranks_from_environment,
    was_restarted,
)
from cp2fast.train.engine import train
from cp2fast.train.lock import locked, refuse_running
from cp2fast.train.metrics import Log
from cp2fast.train.run import Kind, Processes, Run, Settings, begin, resume, rewind
from cp2fast.wording import counted


@contextmanager
def joined_processes(
    settings: CommonTrainSettings, quiet: bool = False
) -> Iterator[tuple[Processes, RunConsole]]:
    """Join the run's processes; yields them and the console of the main process."""
    ranks = ranks_from_environment()
    device = device_of(settings.device, ranks)
    console = RunConsole(quiet=quiet or not ranks.is_main)
    with process_group(ranks, device, settings.timeout_minutes):
        yield Processes(ranks, device, Agreement(ranks, settings.timeout_minutes)), console


def carry_out(
    kind: Kind[Settings],
    settings: Settings,
    folder: RunFolder,
    processes: Processes,
    console: RunConsole,
    resuming: bool,
    is_done: Callable[[Run[Any]], bool] = lambda run: run.is_complete and not run.owes_evaluation,
    on_row: Log | None = None,
) -> tuple[Run[Any], bool]:
    """Begin or resume a run, train it, and print the outcome.

    A process that torchrun restarted always continues from the last checkpoint.

    Args:
        kind: kind of the run.
        settings: the run's settings.
        folder: the run's folder.
        processes: the run's processes, already joined.
        console: prints for the user.
        resuming: whether to continue the existing run.
        is_done: whether a resumed run has nothing left to do.
        on_row: called with each row of ``metrics.jsonl``, in the main process.

    Returns:
        The run, and whether it is complete.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    began, is_main = time.perf_counter(), processes.ranks.is_main
    restarted = was_restarted() and folder.holds_run
    (resuming,) = processes.agreement.any(resuming or restarted)
    if is_main and resuming and not restarted:
        refuse_running(folder)
    start = resume if resuming else begin
    run = start(kind, settings, folder, processes, console.print)
    if is_done(run):
        console.print(f"{folder.path} is complete: all {run.step} steps were run before")
        return run, True
    held = locked(folder, take_over=restarted) if is_main else nullcontext()
    with held:
        if is_main and resuming:
            rewind(run)
        console.print(run.task.announcement(run.step))
        first, accounts = run.step, Accounts(processes.device, began)
        complete = train(run, console, accounts, on_row)
    seconds = round(time.perf_counter() - began)
    for line in _outcome(folder, run.step - first, seconds, accounts.shares()):
        console.print(line)
    return run, complete


def _outcome(
    folder: RunFolder, steps: int, seconds: int, shares: Mapping[Account, float]
) -> list[str]:
    """What was done in which time, and what the time was spent on."""
    done = f"{counted(steps, 'step')} in {seconds // 60} min {seconds % 60} s; {summary(folder)}"
    spent = ", ".join(f"{share:.0%} {name}" for name, share in shares.items() if share >= 0.005)
    return [done, *([f"time: {spent}"] if spent else []), *of_whole_run(shares)]


def summary(folder: RunFolder) -> str:
    """The mean loss of the first and of the last tenth of the logged steps, as text."""
    rows = [row for row in read_metrics(folder.metrics) if row.get("loss") is not None]
    losses = [row["loss"] for row in rows]
    if not losses:
        return "no step was logged yet"
    if len(losses) == 1:
        return f"loss {losses[0]:.3f} at step {rows[0]['step']}, the only one logged"
    first, last = means_of_end_tenths(losses)
    return f"loss {first:.3f} in the first tenth of the run, {last:.3f} in the last"
