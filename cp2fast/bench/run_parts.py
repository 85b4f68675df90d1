"""A run and its parts, each measured separately with one shared network.

step     the network's step on one batch, without an engine
ready    the engine and the network, with pairs composed in advance
loader   source and op; the pairs are not used
engine   source, op and engine, with a step that does nothing
run      everything

Where there is a pixel cache, the first epoch, in which it fills, is not counted: later ones can be
many times as fast, and no part would be the limit in both.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from itertools import islice, pairwise, repeat
from math import ceil
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from cp2fast.batch import CopyPasteBatch
from cp2fast.bench.timing import Say, finish
from cp2fast.config import PretrainSettings
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.model.cp2 import CP2, CP2Output
from cp2fast.model.signals import Vectors
from cp2fast.pretrain.build import PRETRAIN, build
from cp2fast.pretrain.learner import build_learner, contrast
from cp2fast.pretrain.task import PretrainTask
from cp2fast.run_folder import RunFolder, read_metrics
from cp2fast.train.accounts import ACCOUNTS, Account, Accounts, shares_of
from cp2fast.train.batches import Loaded
from cp2fast.train.compile import blank_images, compile_encoders
from cp2fast.train.engine import train
from cp2fast.train.learner import Learner
from cp2fast.train.processes import Processes
from cp2fast.train.run import open_run

FEWEST_STEPS = {"cpu": 6, "cuda": 60}
_ROWS = 3
"""Minimum number of logged rows of a run; the first one is not counted."""

Shared = Learner[CP2, CopyPasteBatch]


class Measured(NamedTuple):
    """The result for one run, or for one part.

    Attributes:
        rate: samples per second, without the first epoch where there is a cache, and without the
            time before the first logged step.
        time: shares of this time by account; None for a single part.
        memory: peak bytes on the GPU; 0 without one.
    """

    rate: float
    time: Mapping[Account, float] | None
    memory: int


Measure = Callable[[int], Measured]
"""Measures this many steps."""


class _Length(NamedTuple):
    """The steps of a run, those of them that are not counted, and the steps between two rows."""

    steps: int
    uncounted: int
    log_every: int


class Parts:
    """The parts to measure, with one shared network, which is compiled once."""

    def __init__(
        self, settings: PretrainSettings, device: torch.device, scratch: Path, say: Say
    ) -> None:
        self.device, self.scratch, self.runs = device, scratch, 0
        self.learner: Shared = build_learner(settings, device)
        self.samples = settings.data.batch_size * settings.train.gradient_accumulation_steps
        batch_size, size, dtype = settings.data.batch_size, settings.model.size, self.learner.dtype
        images_B3SS = blank_images(batch_size, size, dtype, device)
        compile_encoders(self.learner, settings.train.compile, images_B3SS, say)
        # The network is compiled here, once for all parts. Bad images are repeated with the others.
        of_parts = settings.with_values("train", compile="off")
        self.settings = of_parts.with_values("data", max_bad_fraction=1.0)
        network, trained = self.learner.network, self.learner.network.encoder_q.parameters()
        self.nothing = _Nothing(network, trained, contrast, settings.train, device)

    def systems(self, roots: Mapping[int, Path]) -> dict[str, Measure]:
        """The measurements by name; data sets, by their number of images, from small to large."""
        some = roots[max(roots)]
        systems: dict[str, Measure] = {
            "step": partial(self._step_alone, some),
            "ready": partial(self._run, some, self.learner, ready=True),
        }
        for count, root in roots.items():
            systems[f"loader-{count}"] = partial(self._loader, root, images=count)
            systems[f"engine-{count}"] = partial(self._run, root, self.nothing, images=count)
            systems[f"run-{count}"] = partial(self._run, root, self.learner, images=count)
        return systems

    def task(self, root: Path, steps: int = 1) -> PretrainTask:
        """The task of a run that has not started, with the shared network."""
        task = build(self._of(root, steps=steps), self._folder(), Processes.alone(self.device))
        task.learner = self.learner
        return task

    def idle(self, root: Path, images: int) -> float:
        """The share of time that the GPU is idle in the last steps of a run on ``images``."""
        steps = FEWEST_STEPS["cuda"]
        last = self._length(steps, images).steps * self.learner.accumulate - 1
        profiler = profile(activities=[ProfilerActivity.CUDA])

        def watch(batch: int) -> None:
            if batch == last - steps // 2:
                finish(self.device)
                profiler.start()
            elif batch == last:
                finish(self.device)
                profiler.stop()

        self._run(root, self.learner, steps, images, watch=watch)
        events = profiler.events() or []  # type: ignore[no-untyped-call]
        work = [event.time_range for event in events if event.device_type.name == "CUDA"]
        return idle_of((time_range.start, time_range.end) for time_range in work)

    def _run(
        self,
        root: Path,
        learner: Shared,
        steps: int,
        images: int = 0,
        ready: bool = False,
        watch: Callable[[int], None] = lambda batch: None,
    ) -> Measured:
        """A run as the command makes it, except for the parts that are replaced."""

        def built(
            settings: PretrainSettings, folder: RunFolder, processes: Processes
        ) -> PretrainTask:
            task = build(settings, folder, processes)
            task.learner = learner
            given = task.batches

            def batches(start: int, stop: int) -> Generator[Loaded[CopyPasteBatch], None, None]:
                with closing(given(start, stop)) as found:
                    source = _ready(found, task, stop - start) if ready else found
                    for number, batch in enumerate(source):
                        watch(number)
                        yield batch

            task.batches = batches  # type: ignore[method-assign]
            return task

        folder, accounts = self._folder(), Accounts(self.device, time.perf_counter())
        self._forget_memory()
        kind = dataclasses.replace(PRETRAIN, build=built)
        alone = Processes.alone(self.device)
        length = self._length(steps, images)
        settings = self._of(root, steps=length.steps, log_every=length.log_every)
        train(open_run(kind, settings, folder, alone, resuming=False), accounts)
        rows = read_metrics(folder.metrics)
        return Measured(*of_rows(rows, self.samples, length.uncounted), self._memory())

    def _loader(self, root: Path, steps: int, images: int) -> Measured:
        """Take batches as a run gets them, without using them."""
        steps, uncounted, _ = self._length(steps, images)
        task = self.task(root, steps)
        with closing(task.batches(0, steps)) as batches:
            of_steps = (islice(batches, task.learner.accumulate) for _ in range(steps))
            return self._timed(([batch.ready() for batch in own] for own in of_steps), uncounted)

    def _step_alone(self, root: Path, steps: int) -> Measured:
        """The learner's steps on one batch, without an engine."""
        task = self.task(root)
        with closing(task.batches(0, 1)) as batches:
            own = [batch.ready() for batch in batches]
        self._forget_memory()
        uncounted = self._length(steps).uncounted
        return self._timed((self.learner.step(iter(own)) for _ in range(steps)), uncounted)

    def _timed(self, work: Iterator[object], uncounted: int) -> Measured:
        """Time these steps, as a run is timed."""
        for _ in range(uncounted):
            next(work)
        finish(self.device)
        begin = time.perf_counter()
        done = sum(1 for _ in work)
        finish(self.device)
        rate = done * self.samples / (time.perf_counter() - begin)
        return Measured(rate, None, self._memory())

    def _of(self, root: Path, **train: int) -> PretrainSettings:
        return self.settings.with_values("data", root=root).with_values("train", **train)

    def _length(self, steps: int, images: int = 0) -> _Length:
        """That of a run in which ``steps``, or a row fewer, follow the epoch of the ``images``."""
        every = min(self.settings.train.log_every, max(1, steps // _ROWS))
        filling = 0 if self.settings.data.cache == "off" else ceil(images / self.samples)
        uncounted = every * max(1, ceil(filling / every))
        return _Length(steps - every + uncounted, uncounted, every)

    def _folder(self) -> RunFolder:
        for folder in self.scratch.glob("run-*"):
            shutil.rmtree(folder)  # large checkpoints would fill the disk
        self.runs += 1
        return RunFolder(self.scratch / f"run-{self.runs}")

    def _forget_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _memory(self) -> int:
        if self.device.type != "cuda":
            return 0
        return torch.cuda.max_memory_allocated(self.device)


class _Nothing(Learner[CP2, CopyPasteBatch]):
    """A learner whose steps take their batches and return outputs that are made in advance."""

    def step(self, batches: Iterator[CopyPasteBatch], step: int = 0) -> list[CP2Output]:
        channels = self.network.settings.embedding
        return [_output(len(batch), channels, self.device) for batch in batches]


@cache
def _output(batch_size: int, channels: int, device: torch.device) -> CP2Output:
    loss, vectors = torch.ones((), device=device), torch.eye(batch_size, channels, device=device)
    return CP2Output(
        loss,
        loss_instance=loss,
        loss_dense=loss,
        accuracy_instance=loss,
        accuracy_dense=loss,
        similarity_gap=loss,
        embedding_std=loss,
        vectors=Vectors(vectors, vectors, vectors[:, :, None]),
    )


def _ready(
    batches: Iterator[Loaded[CopyPasteBatch]], task: PretrainTask, steps: int
) -> Iterator[Loaded[CopyPasteBatch]]:
    """The first batch, repeated."""
    first = next(batches)
    finish(task.learner.device)
    ready = Loaded(first.batch, first.images)
    return repeat(ready, steps * task.settings.train.gradient_accumulation_steps)


def idle_of(intervals: Iterable[tuple[float, float]]) -> float:
    """The share between the first start and the last end that no interval covers."""
    ordered = sorted(intervals)
    if not ordered:
        return 1.0
    begin, covered_to = ordered[0][0], ordered[0][0]
    covered = 0.0
    for start, end in ordered:
        covered += max(0.0, end - max(start, covered_to))
        covered_to = max(covered_to, end)
    return 1 - covered / (covered_to - begin)


def data_set(images: ImageSet, count: int, root: Path) -> Path:
    """A folder of ``count`` images, repeating the given ones as needed."""
    root.mkdir()
    for number in range(count):
        own = number % len(images)
        name = root / f"{number:06}{PurePath(images.name(own)).suffix}"
        if images.kind == "folder":
            name.symlink_to(Path(images.name(own)).resolve())
        elif number < len(images):
            name.write_bytes(images.read(own))
        else:
            name.symlink_to(root / f"{own:06}{name.suffix}")
    return root


def of_rows(
    rows: Sequence[Mapping[str, Any]], samples: int, uncounted: int
) -> tuple[float, dict[Account, float]]:
    """Samples per second, and shares of the time, after the row of step ``uncounted``."""
    logged = [row for row in rows if "images_per_second" in row and row["step"] >= uncounted]
    steps, whole, spent = 0, 0.0, dict.fromkeys(ACCOUNTS, 0.0)
    for before, row in pairwise(logged):
        seconds = (row["step"] - before["step"]) * samples / row["images_per_second"]
        for account in ACCOUNTS:
            spent[account] += seconds * row["time"][account]
        steps, whole = steps + row["step"] - before["step"], whole + seconds
    return steps * samples / whole, shares_of(spent)
