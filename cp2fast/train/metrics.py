"""Logging: one row per logged step, written to a file, the loggers and the screen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cp2fast.train.loggers import Log, loggers
from cp2fast.train.run import Run


@contextmanager
def metrics_log(run: Run[Any], on_row: Log | None = None) -> Iterator[Log]:
    """Log to ``metrics.jsonl``, the loggers of ``train.log`` and a progress bar.

    A row with a loss moves the progress bar. NaN and infinity are written as ``null``.

    Args:
        run: the run; its main process logs, the others log nothing.
        on_row: called with each row after it is written.
    """
    if not run.processes.is_main:
        yield lambda row: None
        return
    console = run.processes.console
    settings, first_step, last_step = run.task.settings, run.step, run.task.total_steps
    bar = Progress(
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=None),
        TextColumn("loss {task.fields[loss]}  {task.fields[rate]} images/s"),
        TextColumn("{task.fields[time]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    config = settings.model_dump(mode="json")
    with (
        loggers(settings.train.log, config, run.folder, first_step, console.print) as follow,
        run.folder.metrics.open("a", encoding="utf-8") as file,
        bar,
    ):
        task = bar.add_task(
            "", total=last_step, completed=first_step, loss="...", rate="...", time="..."
        )

        def log(row: Mapping[str, Any]) -> None:
            step = row["step"]
            file.write(json.dumps(_without_nan(row), allow_nan=False) + "\n")
            file.flush()
            follow(row)
            if on_row is not None:
                on_row(row)
            if "loss" not in row:
                return
            loss, rate = f"{row['loss']:.4f}", f"{row['images_per_second']:.1f}"
            spent = _spent(row["time"])
            bar.update(task, completed=step, loss=loss, rate=rate, time=spent)
            if not console.is_terminal and _is_milestone(step, last_step):
                console.print(f"step {step}/{last_step}  loss {loss}  {rate} images/s  {spent}")

        yield log


def _is_milestone(step: int, last_step: int) -> bool:
    """Whether to print a line, about twenty per run, where no terminal shows a progress bar."""
    return step == last_step or step % max(1, last_step // 20) == 0


def _spent(shares: Mapping[str, float]) -> str:
    """The time accounts in short: the step's share, and the others of at least one percent."""
    others = [f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.01]
    return "  ".join(others)


def _without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with NaN and infinity replaced by None, as JSON requires."""
    return {
        name: _without_nan(value)
        if isinstance(value, Mapping)
        else value
        if value is None or math.isfinite(value)
        else None
        for name, value in row.items()
    }
