"""What a run logs: one typed row a logged step, to a file, to loggers and to the screen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cp2fast.config import FinetuneSettings, PretrainSettings
from cp2fast.run_folder import RunFolder
from cp2fast.train.loggers import loggers


class Row(Protocol):
    """A dataclass of numbers that belong to one step; one with a loss moves the progress bar."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def step(self) -> int:
        """Steps done, from 1."""


class Log(Protocol):
    """Takes a run's metrics as they come."""

    def __call__(self, metrics: Row) -> None:
        """Note one logged step."""


@contextmanager
def metrics_log(
    run: RunFolder,
    settings: PretrainSettings | FinetuneSettings,
    first_step: int,
    last_step: int,
    console: Console,
    is_main: bool,
) -> Iterator[Log]:
    """Log to ``metrics.jsonl``, the loggers of ``train.log`` and a progress bar.

    Args:
        run: where to.
        settings: of the run.
        first_step: steps done before.
        last_step: of the whole run.
        console: of the progress bar.
        is_main: nothing is logged by a process that is not the main one.
    """
    if not is_main:
        yield lambda metrics: None
        return
    bar = Progress(
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=None),
        TextColumn("loss {task.fields[loss]}  {task.fields[rate]} images/s"),
        TextColumn("data wait {task.fields[wait]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    config = settings.model_dump(mode="json")
    with (
        loggers(settings.train.log, config, run, first_step, console.print) as follow,
        run.metrics.open("a", encoding="utf-8") as file,
        bar,
    ):
        task = bar.add_task(
            "", total=last_step, completed=first_step, loss="...", rate="...", wait="..."
        )

        def log(metrics: Row) -> None:
            values = asdict(metrics)
            file.write(json.dumps(values) + "\n")
            file.flush()
            follow(values)
            if "loss" not in values:
                return
            loss, rate = f"{values['loss']:.4f}", f"{values['images_per_second']:.1f}"
            wait = f"{values['data_wait']:.0%}"
            bar.update(task, completed=metrics.step, loss=loss, rate=rate, wait=wait)
            if not console.is_terminal and _is_milestone(metrics.step, last_step):
                console.print(
                    f"step {metrics.step}/{last_step}  loss {loss}  {rate} images/s  "
                    f"data wait {wait}"
                )

        yield log


def _is_milestone(step: int, last_step: int) -> bool:
    """About twenty lines a run where there is no terminal for a progress bar."""
    return step == last_step or step % max(1, last_step // 20) == 0


class Stopwatch:
    """Splits the time between two logged steps into waiting for data and the rest.

    On a GPU it is the GPU's waiting that counts: the host, which runs ahead of it, waits for the
    next batch also while the GPU is at work on the last one.
    """

    def __init__(self, step: int, device: torch.device) -> None:
        self._step = step
        self._device = device
        self._begin = time.perf_counter()
        self._waited = 0.0
        self._waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data; the batch must be ready when it ends."""
        if self._device.type == "cuda":
            begin = _mark(self._device)
            yield
            self._waits.append((begin, _mark(self._device)))
        else:
            started = time.perf_counter()
            yield
            self._waited += time.perf_counter() - started

    def lap(self, step: int) -> tuple[int, float, float]:
        """Steps and seconds since the last lap, and the share of them spent waiting.

        The device must have done these steps: the caller has read their loss.
        """
        waited = self._waited + sum(begin.elapsed_time(end) for begin, end in self._waits) / 1e3
        now = time.perf_counter()
        steps, seconds = step - self._step, now - self._begin
        self._step, self._begin, self._waited, self._waits = step, now, 0.0, []
        return steps, seconds, waited / seconds


def _mark(device: torch.device) -> torch.cuda.Event:
    """When the device has done all that was asked of it so far."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
