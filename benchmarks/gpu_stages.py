"""The stages of gpu.py: what each one runs, its time limit, and what it compiles.

On a GPU, sizes are those of the recipes. On a CPU they are tiny: a rehearsal, which shows that
every stage runs to its end.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.common import SMALL_NETWORK

TINY = [
    "model.backbone=test_resnet",
    "model.size=32",
    "model.head_channels=16",
    "model.queue=64",
    "data.batch_size=4",
    "train.compile=off",
]
EVIDENCE_MINUTES = 4.7
EVIDENCE = ["--explore", "0", "--steps", "400", "--jobs", "18"]
"""All 18 pretrainings at once; GPU_EVIDENCE is the folder that --prepare has made."""
SANITIZER = "compute-sanitizer"
R50 = ("data.batch_size=256",)
VITS16 = ("data.batch_size=256", "model.backbone=vit_small_patch16_224")
R18 = (*SMALL_NETWORK, "data.batch_size=256")


@dataclass(frozen=True)
class Job:
    """What all stages share.

    Attributes:
        gpu: whether there is a GPU; without one everything is tiny.
        photos: the data set.
        scenes: generated images with masks, in VOC layout.
        out: folder for the results.
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
        figures: the JSON file that it writes; None if its last line says all.
    """

    words: list[str]
    figures: Path | None = None


@dataclass
class Result:
    """The outcome of a stage.

    Attributes:
        name: name of the stage.
        status: ``done``, ``failed`` or ``left out``.
        detail: one line.
        seconds: its duration.
        figures: the JSON of each command, by the name of its file.
    """

    name: str
    status: str = "left out"
    detail: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, command: Command, code: int, said: str) -> None:
        """Add the outcome of a command; the first failure is that of the stage."""
        if command.figures is not None:
            with suppress(FileNotFoundError, ValueError):  # killed before they were written whole
                self.figures[command.figures.stem] = json.loads(command.figures.read_text("utf-8"))
        if self.status == "failed":
            return
        last = ([line for line in said.split("\n") if line.strip()] or ["nothing said"])[-1]
        if code:
            self.status, self.detail = "failed", f"exit code {code}: {last.strip()}"
            return
        figures = self.figures.get(command.figures.stem, {}) if command.figures else {}
        self.status, self.detail = "done", str(figures.get("bottleneck", last.strip("= ")))


@dataclass(frozen=True)
class Stage:
    """One thing to prove.

    Attributes:
        name: name on the command line.
        what: what it shows, for the help.
        seconds: time limit for all its commands.
        commands: commands to run one after the other.
        timed: whether other work at the same time would spoil its figures.
        compiles: settings for which it needs compiled encoders.
        only_by_name: whether it runs only if asked for by name.
        needs: program without which it has no commands on a GPU.
    """

    name: str
    what: str
    seconds: int
    commands: Callable[[Job], Iterator[Command]]
    timed: bool = True
    compiles: tuple[tuple[str, ...], ...] = ()
    only_by_name: bool = False
    needs: str = ""


def _tests(job: Job) -> Iterator[Command]:
    tests = ["tests"] if job.gpu else ["tests/copypaste/test_backends.py"]
    # Most of a test's time goes into starting processes on the CPU.
    side_by_side = ["-n", "8"] if job.gpu and find_spec("xdist") is not None else []
    yield _module("pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *side_by_side, *tests)


def _memcheck(job: Job) -> Iterator[Command]:
    small = _module("benchmarks.small_case")
    if not job.gpu:
        yield small
    elif tool := shutil.which(SANITIZER):
        # In blocks of torch's cache, which are larger than the images, it would see no overrun.
        uncached = ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", tool]
        # Looking up an entry point that the driver lacks is an API error, but no invalid access.
        options = ["--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "9"]
        yield Command([*uncached, *options, *small.words])


def _op(job: Job) -> Iterator[Command]:
    if job.gpu:
        file = job.out / "op_figures.json"
        words = ["--json", str(file), "--photos", str(job.photos)]
        yield Command(_module("benchmarks.gpu_op", *words).words, file)
    else:
        yield _bench(job, "augment", (f"data.root={job.photos}",), "op_figures")


def _step(job: Job) -> Iterator[Command]:
    yield _bench(job, "train", R50, "step_r50")
    if job.gpu:
        yield _bench(job, "train", VITS16, "step_vits16")


def _decode(job: Job) -> Iterator[Command]:
    settings = R50 if job.gpu else TINY
    yield _script(job, "gpu_decode", "decode_figures", f"data.root={job.photos}", *settings)


def _run(job: Job) -> Iterator[Command]:
    yield _bench(job, "run", (*R50, f"data.root={job.photos}"), "run_r50", rounds=1)


def _cache(job: Job) -> Iterator[Command]:
    settings = R18 if job.gpu else TINY
    yield _script(job, "cached_runs", "cache_runs", f"data.root={job.photos}", *settings)


def _peers(job: Job) -> Iterator[Command]:
    yield _script(job, "peer_step", "peer_step", *(R50 if job.gpu else TINY))
    if job.gpu:  # otherwise the stage op has measured this
        yield _bench(job, "augment", (f"data.root={job.photos}",), "peers_augment", rounds=1)


def _evidence(job: Job) -> Iterator[Command]:
    """Only the small files are results; the others, such as checkpoints, go to a scratch folder."""
    kept, data = job.out / "evidence", os.environ.get("GPU_EVIDENCE", "evidence-data")
    words = [sys.executable, "benchmarks/evidence.py"]
    words += ["--keep", str(kept), "--out", str(Path(tempfile.mkdtemp()) / "evidence")]
    if job.gpu:
        words += ["--gpu-minutes", f"{EVIDENCE_MINUTES}", data, *EVIDENCE]
    else:
        words += ["--cpu-hours", "1", "--tiny"]
    yield Command(words, kept / "evidence.json")


def _profile(job: Job) -> Iterator[Command]:
    yield _script(job, "profile_step", "profile_step", *(R50 if job.gpu else TINY))


def _bench(job: Job, what: str, settings: tuple[str, ...], name: str, rounds: int = 3) -> Command:
    file = job.out / f"{name}.json"
    if job.gpu:
        turns = ["--rounds", str(rounds), "--seconds", "1.5"]
    else:
        turns = ["--rounds", "1", "--seconds", "0.05"]
    words = ["bench", what, *settings, *([] if job.gpu else TINY), *turns, "--json", str(file)]
    return Command(_module("cp2fast", *words).words, file)


def _script(job: Job, script: str, name: str, *settings: str) -> Command:
    """A script of this folder, which writes its figures to the file named first."""
    file = job.out / f"{name}.json"
    return Command(_module(f"benchmarks.{script}", str(file), *settings).words, file)


def _module(name: str, *arguments: str) -> Command:
    return Command([sys.executable, "-m", name, *arguments])


STAGES = {
    stage.name: stage
    for stage in (
        Stage("tests", "the tests that need a GPU", 90, _tests, timed=False),
        Stage(
            "memcheck", "no invalid access in the op", 60, _memcheck, timed=False, needs=SANITIZER
        ),
        Stage("op", "decoded photos to composed pairs", 60, _op),
        Stage("step", "composed pairs to new weights", 90, _step, compiles=(R50, VITS16)),
        Stage("decode", "photos to pixels and to pairs, CPU and GPU", 90, _decode),
        Stage("run", "a whole run and its parts", 150, _run, compiles=(R50,)),
        Stage("cache", "runs from files and from the cache", 120, _cache, compiles=(R18,)),
        Stage("peers", "other libraries on the same card", 90, _peers, compiles=(R50,)),
        Stage("evidence", "what the weights are worth", 300, _evidence, only_by_name=True),
        Stage("profile", "the kernels of a step", 60, _profile, compiles=(R50,)),
    )
}
