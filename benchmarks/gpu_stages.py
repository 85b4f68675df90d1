"""The stages of gpu.py: what each one runs, within how many seconds, and what it compiles.

Sizes are those of the recipes on a GPU and tiny ones on a CPU, where a rehearsal shows that every
stage runs to its end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TINY = [
    "model.backbone=test_resnet",
    "model.size=32",
    "model.head_channels=16",
    "model.queue=64",
    "data.batch_size=4",
    "train.compile=off",
]
SMALL_PICTURES = ["model.backbone=resnet18", "model.head_channels=128", "model.size=128"]
EVIDENCE_MINUTES = 4.7
EVIDENCE = ["--explore", "0", "--steps", "400", "--jobs", "18"]
"""All 18 pretrainings at once; its data is what --prepare leaves, in GPU_EVIDENCE."""
R50 = ("data.batch_size=256",)
VITS16 = ("data.batch_size=256", "model.backbone=vit_small_patch16_224")
R18 = (*SMALL_PICTURES, "data.batch_size=256")


@dataclass(frozen=True)
class Job:
    """What all stages of a call share.

    Attributes:
        gpu: whether there is a GPU; without one everything is tiny.
        photos: the data set.
        scenes: generated ones with masks, in VOC layout.
        out: folder of the results.
    """

    gpu: bool
    photos: Path
    scenes: Path
    out: Path


@dataclass(frozen=True)
class Command:
    """One process of a stage.

    Attributes:
        words: the command line.
        figures: the JSON that it leaves; None where its last line says all.
    """

    words: list[str]
    figures: Path | None = None


@dataclass
class Result:
    """What became of a stage.

    Attributes:
        name: of the stage.
        status: ``done``, ``failed`` or ``left out``.
        detail: one line.
        seconds: that it took.
        figures: the JSON of each command, by the name of its file.
    """

    name: str
    status: str = "left out"
    detail: str = "nothing to run here"
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, command: Command, done: subprocess.CompletedProcess[str]) -> None:
        """Take a command's end into account: the first failure is what the stage says."""
        if command.figures is not None and command.figures.exists():
            self.figures[command.figures.stem] = json.loads(command.figures.read_text("utf-8"))
        if self.status == "failed":
            return
        lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).split("\n")
        said = [line for line in lines if line.strip()] or ["nothing said"]
        if done.returncode:
            self.status, self.detail = "failed", f"exit code {done.returncode}: {said[-1].strip()}"
            return
        figures = self.figures.get(command.figures.stem, {}) if command.figures else {}
        self.status, self.detail = "done", str(figures.get("bottleneck", said[-1].strip("= ")))


@dataclass(frozen=True)
class Stage:
    """One thing to prove.

    Attributes:
        name: on the command line.
        what: it shows, for the help.
        seconds: in which all its commands must end.
        commands: to run one after the other.
        timed: whether anything beside it would spoil its figures.
        compiles: settings whose encoders it needs compiled.
        only_by_name: left out unless asked for.
    """

    name: str
    what: str
    seconds: int
    commands: Callable[[Job], Iterator[Command]]
    timed: bool = True
    compiles: tuple[tuple[str, ...], ...] = ()
    only_by_name: bool = False


def _tests(job: Job) -> Iterator[Command]:
    tests = ["tests"] if job.gpu else ["tests/copypaste/test_backends.py"]
    # Most of a test's time goes into starting processes on the CPU.
    side_by_side = ["-n", "8"] if job.gpu and find_spec("xdist") is not None else []
    yield _module("pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *side_by_side, *tests)


def _memcheck(job: Job) -> Iterator[Command]:
    tool = shutil.which("compute-sanitizer")
    small = [sys.executable, "benchmarks/small_case.py"]
    if job.gpu and tool is not None:
        # Looking an entry point up that the driver lacks is an API error, and no wrong access.
        options = ["--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "9"]
        yield Command([tool, *options, *small])
    else:
        yield Command(small)


def _op(job: Job) -> Iterator[Command]:
    file = job.out / "op_figures.json"
    if job.gpu:
        words = [sys.executable, "benchmarks/gpu_op.py", "--json", str(file)]
        yield Command([*words, "--photos", str(job.photos)], file)
    else:
        yield _bench(job, "augment", (f"data.root={job.photos}",), "op_figures")


def _step(job: Job) -> Iterator[Command]:
    yield _bench(job, "train", R50, "step_r50")
    if job.gpu:
        yield _bench(job, "train", VITS16, "step_vits16")


def _decode(job: Job) -> Iterator[Command]:
    file = job.out / "decode_figures.json"
    settings = [f"data.root={job.photos}", *(R50 if job.gpu else TINY)]
    yield Command([sys.executable, "benchmarks/gpu_decode.py", str(file), *settings], file)


def _run(job: Job) -> Iterator[Command]:
    yield _bench(job, "run", (*R50, f"data.root={job.photos}"), "run_r50", rounds=1)


def _cache(job: Job) -> Iterator[Command]:
    file = job.out / "cache_runs.json"
    settings = [f"data.root={job.photos}", *([] if job.gpu else TINY)]
    words = [sys.executable, "benchmarks/cached_runs.py", str(file), *settings]
    yield Command(words, file)


def _peers(job: Job) -> Iterator[Command]:
    file = job.out / "peer_step.json"
    settings = [*(R50 if job.gpu else TINY)]
    yield Command([sys.executable, "benchmarks/peer_step.py", str(file), *settings], file)
    if job.gpu:  # else the stage op has done it
        yield _bench(job, "augment", (f"data.root={job.photos}",), "peers_augment", rounds=1)


def _evidence(job: Job) -> Iterator[Command]:
    """What it leaves beside its small files, such as checkpoints, stays out of the results."""
    kept, data = job.out / "evidence", os.environ.get("GPU_EVIDENCE", "evidence-data")
    words = [sys.executable, "benchmarks/evidence.py"]
    words += ["--keep", str(kept), "--out", str(Path(tempfile.mkdtemp()) / "evidence")]
    if job.gpu:
        words += ["--gpu-minutes", f"{EVIDENCE_MINUTES}", data, *EVIDENCE]
    else:
        words += ["--cpu-hours", "1", "--tiny"]
    yield Command(words, kept / "evidence.json")


def _profile(job: Job) -> Iterator[Command]:
    file = job.out / "profile_step.json"
    settings = R50 if job.gpu else TINY
    yield Command([sys.executable, "benchmarks/profile_step.py", str(file), *settings], file)


def _bench(job: Job, what: str, settings: tuple[str, ...], name: str, rounds: int = 3) -> Command:
    file = job.out / f"{name}.json"
    if job.gpu:
        turns = ["--rounds", str(rounds), "--seconds", "1.5"]
    else:
        turns = ["--rounds", "1", "--seconds", "0.05"]
    words = ["bench", what, *settings, *([] if job.gpu else TINY), *turns, "--json", str(file)]
    return Command(_module("cp2fast", *words).words, file)


def _module(name: str, *arguments: str) -> Command:
    return Command([sys.executable, "-m", name, *arguments])


STAGES = {
    stage.name: stage
    for stage in (
        Stage("tests", "the tests that need a GPU", 90, _tests, timed=False),
        Stage("memcheck", "no invalid access in the op", 60, _memcheck, timed=False),
        Stage("op", "decoded photos to composed pairs", 60, _op),
        Stage("step", "composed pairs to new weights", 90, _step, compiles=(R50, VITS16)),
        Stage("decode", "photos to pixels and to pairs, CPU and GPU", 90, _decode),
        Stage("run", "a whole run beside its parts", 150, _run, compiles=(R50,)),
        Stage("cache", "runs from files and from the cache", 90, _cache, compiles=(R18, R50)),
        Stage("peers", "other libraries on the same card", 90, _peers, compiles=(R50,)),
        Stage("evidence", "what the weights are worth", 300, _evidence, only_by_name=True),
        Stage("profile", "the kernels of a step", 60, _profile, compiles=(R50,)),
    )
}
