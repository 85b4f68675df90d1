"""Run the stages that show what works on a GPU, and how fast; see gpu.sh.

Each stage runs in processes of its own under a time limit, so the others run even if it hangs or
dies. Encoders for later stages are compiled during stages that are not timed. Each stage writes its
figures, and a table shows all of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import write_result
from benchmarks.gpu_stages import STAGES, Job, Result, Stage
from cp2fast.bench.run_parts import data_set
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.machine import machine

SCENES = 512
LINKS = 2048
"""Minimum number of files of the data set: with fewer, an epoch would be a single step."""
REHEARSAL = 900
"""Time limit of a stage in seconds without a GPU, as kernels are compiled and cores are shared."""


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
    scenes = out / "scenes"
    if not scenes.exists():
        generate_scenes(scenes, SCENES if gpu else 32, seed=0)
    job = Job(gpu, photos(scenes, out, gpu), scenes, out)
    # Shared by all stages, so that each network is compiled once.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(out / "inductor"))

    console = Console(soft_wrap=True, highlight=False)
    chosen = [stage for stage in STAGES.values() if stage.name in names]
    compiled = dict.fromkeys(settings for stage in chosen for settings in stage.compiles)
    ahead = [compile_ahead(job, settings) for settings in compiled] if gpu else []
    results = []
    for stage in chosen:
        if stage.timed:
            for process in ahead:
                process.wait()
        console.print(f"{stage.name} ...")
        results.append(run_stage(stage, job))
        console.print(f"  {results[-1].status}: {results[-1].detail}")
    for process in ahead:
        process.wait()
    show(console, results)
    return int(any(result.status == "failed" for result in results))


def photos(scenes: Path, out: Path, gpu: bool) -> Path:
    """The data set: the user's photos or scenes, repeated by links if they are few."""
    given = os.environ.get("GPU_PHOTOS")
    folder = Path(given) if given is not None else scenes / "JPEGImages"
    images, links = list_images(folder), out / "photos"
    if not gpu or len(images) >= LINKS:
        return folder
    return links if links.exists() else data_set(images, LINKS, links)


def compile_ahead(job: Job, settings: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start compiling the encoders for some settings in the background."""
    words = [sys.executable, "-m", "benchmarks.compile_ahead", *settings]
    with (job.out / "compile.txt").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)


def run_stage(stage: Stage, job: Job) -> Result:
    """Run the commands of a stage within its time limit, and keep their output and figures."""
    began = time.perf_counter()
    result = Result(stage.name)
    for command in stage.commands(job):
        left = (stage.seconds if job.gpu else REHEARSAL) - (time.perf_counter() - began)
        if command.figures is not None:  # of an earlier call
            command.figures.unlink(missing_ok=True)
        done = start(command.words, left)
        log = job.out / f"{stage.name}.txt"
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(command.words)}\n{done.stdout}{done.stderr}\n")
        result.add(command, done)
    result.seconds = time.perf_counter() - began
    write_result(job.out / f"{stage.name}.json", asdict(result))
    return result


def start(words: list[str], limit: float) -> subprocess.CompletedProcess[str]:
    """Run a command; after ``limit`` seconds it and all processes it has started are killed."""
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=max(0.0, limit))
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        code, errors = 124, f"{errors}\nnot done after {limit:.0f} s"
    return subprocess.CompletedProcess(words, code, output, errors)


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
