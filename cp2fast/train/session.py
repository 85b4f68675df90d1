"""What every training command does: join the processes, begin or resume a run, train, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from shlex import quote

from torch.distributed import Store  # type: ignore[attr-defined]

from cp2fast.run_folder import RunFolder, means_of_end_tenths, read_metrics
from cp2fast.train.accounts import Account, Accounts
from cp2fast.train.advice import of_whole_run
from cp2fast.train.compile import uncompile
from cp2fast.train.distributed import launch_store
from cp2fast.train.engine import train
from cp2fast.train.lock import locked, refuse_running, this_process
from cp2fast.train.loggers import Log
from cp2fast.train.processes import Processes, joined_processes
from cp2fast.train.run import AnyTask, Kind, Run, Settings, open_run, rewind
from cp2fast.wording import counted


def run_task(
    kind: Kind[Settings, AnyTask],
    settings: Settings,
    path: Path,
    resuming: bool,
    on_row: Log | None = None,
    quiet: bool = False,
) -> Run[AnyTask]:
    """Begin or resume a run, train it, and print the outcome and what to do next.

    Args:
        kind: kind of the run.
        settings: the run's settings.
        path: path of the run's folder.
        resuming: whether to continue the existing run.
        on_row: called with each row of ``metrics.jsonl``, in the main process.
        quiet: print nothing.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    with joined_processes(settings.train, quiet) as processes:
        run = carry_out(kind, settings, RunFolder(path), processes, resuming, on_row)
    if not run.is_complete:
        resume = f"{kind.command} --resume --out {quote(str(path))}"
        processes.console.print(f"stopped and saved; continue with: {resume}")
    elif processes.is_main:
        for line in kind.report(run):
            processes.console.print(line)
    return run


def carry_out(
    kind: Kind[Settings, AnyTask],
    settings: Settings,
    folder: RunFolder,
    processes: Processes,
    resuming: bool,
    on_row: Log | None = None,
) -> Run[AnyTask]:
    """``run_task`` in processes that are joined already, without the report.

    Processes that torchrun restarts continue the run that they had begun or resumed.
    """
    began, console = time.perf_counter(), processes.console
    launch = launch_store(processes.ranks) if processes.is_main else None
    (resuming,) = processes.agreement.any(resuming or _is_of_earlier_attempt(folder, launch))
    if resuming:
        processes.agreement.of_main(lambda: refuse_running(folder))
    run = open_run(kind, settings, folder, processes, resuming)
    if launch is not None:
        launch.set(str(folder.path.resolve()), str(this_process()))
    if run.is_complete and (folder.path / kind.last_file).exists():
        console.print(f"{folder.path} is complete: all {run.step} steps were run before")
        return run
    first, accounts = run.step, Accounts(processes.device, began)
    with ExitStack() as held:
        processes.agreement.of_main(lambda: held.enter_context(locked(folder)))
        if processes.is_main and resuming:
            rewind(run)
        try:
            train(run, accounts, on_row)
        finally:
            uncompile(run.task.learner.network.modules())
    seconds = round(time.perf_counter() - began)
    for line in _outcome(folder, run.step - first, seconds, accounts.shares()):
        console.print(line)
    return run


def _is_of_earlier_attempt(folder: RunFolder, launch: Store | None) -> bool:
    """Whether the run is one that a process before this one, of the same torchrun, worked on.

    torchrun restarts processes after any failure, so also after the refusal of another's run.
    """
    name = str(folder.path.resolve())
    if launch is None or not folder.holds_run or not launch.check([name]):
        return False
    return bool(launch.get(name).decode() != str(this_process()))


def _outcome(
    folder: RunFolder, steps: int, seconds: int, shares: Mapping[Account, float]
) -> list[str]:
    """What was done in which time, and what the time was spent on."""
    done = f"{counted(steps, 'step')} in {seconds // 60} min {seconds % 60} s; {_summary(folder)}"
    spent = ", ".join(f"{share:.0%} {name}" for name, share in shares.items() if share >= 0.005)
    return [done, *([f"time: {spent}"] if spent else []), *of_whole_run(shares)]


def _summary(folder: RunFolder) -> str:
    """The mean loss of the first and of the last tenth of the logged steps, as text."""
    rows = [row for row in read_metrics(folder.metrics) if row.get("loss") is not None]
    losses = [row["loss"] for row in rows]
    if not losses:
        return "no step was logged yet"
    if len(losses) == 1:
        return f"loss {losses[0]:.3f} at step {rows[0]['step']}, the only one logged"
    first, last = means_of_end_tenths(losses)
    return f"loss {first:.3f} in the first tenth of the run, {last:.3f} in the last"
