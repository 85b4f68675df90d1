"""Run the stages that show what works on a GPU, and how fast; see gpu.sh.

Each stage runs in processes of its own under a time limit, so the others run even if it hangs or
dies; none outlives its limit or this process. Encoders for later stages are compiled during stages
that are not timed. Each stage writes its figures, and a table shows all of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import write_result
from benchmarks.gpu_stages import STAGES, Job, Result, Stage
from cp2fast.bench.run_parts import data_set
from cp2fast.console import open_console
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.machine import machine

SCENES = 512
LINKS = 2048
"""Minimum number of files of the data set: with fewer, an epoch would be a single step."""
REHEARSAL = 900
"""Time limit of a stage in seconds without a GPU, as kernels are compiled and cores are shared."""
AHEAD = 300
"""Time limit in seconds of compiling for later stages, from the start."""
LATE = 124
"""Exit code of what was not done at its limit, as of timeout(1)."""
_stopped = threading.Event()
"""Set by a signal that ends this call. An exception from its handler could arise before a process
that was just started is known here, and leave it behind."""


def main() -> int:
    names = sys.argv[1:] or [name for name, stage in STAGES.items() if not stage.only_by_name]
    if "--help" in names:
        for stage in STAGES.values():
            print(f"{stage.name:9} {stage.seconds:4} s  {stage.what}")
        return 0
    if unknown := [name for name in names if name not in STAGES]:
        raise UserError(f"no stage is called {unknown[0]}: name any of {', '.join(STAGES)}")
    out = Path(os.environ.get("GPU_OUT", "gpu-results")).absolute()
    out.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.is_available()
    count, fewest = (SCENES, LINKS) if gpu else (32, 1)
    scenes = out / f"scenes-{count}"
    if not scenes.exists():
        generate_scenes(scenes, count, seed=0)
    given = Path(os.environ.get("GPU_PHOTOS") or scenes / "JPEGImages")
    # Shared by all stages, so that each network is compiled once.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(out / "inductor"))

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _stopped.set())
    with tempfile.TemporaryDirectory(prefix="photos-", dir=out) as links:
        job = Job(gpu, photos(given, Path(links) / "photos", fewest), scenes, out)
        results = run_stages([stage for stage in STAGES.values() if stage.name in names], job)
    return int(any(result.status == "failed" for result in results))


def run_stages(stages: list[Stage], job: Job) -> list[Result]:
    """Run stages one after the other, compiling for the later ones meanwhile, and show a table."""
    began, console, results = time.perf_counter(), open_console(), list[Result]()
    ahead = compile_ahead(stages, job.out / "compile.txt") if job.gpu else []
    try:
        for stage in stages:
            while stage.timed and ahead:
                if code := finish(ahead.pop(), began + AHEAD - time.perf_counter()):
                    why = f"not done after {AHEAD} s" if code == LATE else f"exit code {code}"
                    console.print(f"not compiled ahead ({why}): see {job.out / 'compile.txt'}")
            console.print(f"{stage.name} ...")
            results.append(run_stage(stage, job))
            console.print(f"  {results[-1].status}: {results[-1].detail}")
    finally:
        for process in ahead:
            finish(process, 0)
    show(console, results)
    return results


def photos(folder: Path, links: Path, fewest: int) -> Path:
    """The photos of a folder, or a new folder of links that repeat them if there are too few.

    The links are those of one call: an earlier one may have had other photos.
    """
    images = list_images(folder)
    return folder if len(images) >= fewest else data_set(images, fewest, links)


def compile_ahead(stages: list[Stage], log: Path) -> list[subprocess.Popen[bytes]]:
    """Start compiling the encoders of these stages in the background."""
    words = [sys.executable, "-m", "benchmarks.compile_ahead"]
    compiled = dict.fromkeys(settings for stage in stages for settings in stage.compiles)
    with log.open("ab") as file:
        return [begin([*words, *settings], file) for settings in compiled]


def run_stage(stage: Stage, job: Job) -> Result:
    """Run the commands of a stage within its time limit, and keep their output and figures."""
    began = time.perf_counter()
    result = Result(stage.name, detail=f"there is no {stage.needs} here")
    for command in stage.commands(job):
        left = (stage.seconds if job.gpu else REHEARSAL) - (time.perf_counter() - began)
        if command.figures is not None:  # of an earlier call
            command.figures.unlink(missing_ok=True)
        result.add(command, *start(command.words, job.out / f"{stage.name}.txt", left))
    result.seconds = time.perf_counter() - began
    write_result(job.out / f"{stage.name}.json", asdict(result))
    return result


def start(words: list[str], log: Path, limit: float) -> tuple[int, str]:
    """Run a command within its limit; returns its exit code and what it has added to ``log``."""
    with log.open("ab", buffering=0) as file:
        file.write(f"$ {' '.join(words)}\n".encode())
        start_of_output = file.tell()
        code = finish(begin(words, file), limit)
        if code == LATE:
            file.write(f"\nnot done after {limit:.0f} s\n".encode())
    return code, log.read_bytes()[start_of_output:].decode(errors="replace")


def begin(words: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; what it prints is in the file at once."""
    return subprocess.Popen(
        words,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},  # or its traceback stands before what it said
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes], limit: float) -> int:
    """Wait for a process of ``begin``; returns its exit code, or LATE after ``limit`` seconds.

    In either case, and if this call is stopped, all that it has started ends with it.
    """
    end = time.perf_counter() + limit
    try:
        while (code := process.poll()) is None and time.perf_counter() < end:
            if _stopped.is_set():
                raise KeyboardInterrupt
            time.sleep(0.02)
        return LATE if code is None else code
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def show(console: Console, results: list[Result]) -> None:
    """Print one table of all stages, with the results of a benchmark below its stage."""
    table = Table("stage", "", "seconds", "", title=str(machine()["gpu"]))
    for result in results:
        table.add_row(result.name, result.status, f"{result.seconds:.0f}", result.detail)
        for figures in result.figures.values():
            for row in figures.get("results", []):
                table.add_row("", row["system"], "", f"{row['images_per_second']:.1f} images/s")
    console.print(table)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
