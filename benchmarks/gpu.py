"""Run stages that a GPU must prove; each leaves its figures, and a table shows all; see gpu.sh.

Each stage is a process or several, with a time limit for all it starts, so that one that hangs or
dies leaves the others their turn. Encoders of later stages are compiled while the stages run that
are not timed.
"""

from __future__ import annotations

import json
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

from benchmarks.gpu_stages import STAGES, Job, Result, Stage
from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.machine import machine, versions

SCENES = 512
LINKS = 2048
"""Files of the data set at least: with fewer an epoch would be a step."""
REHEARSAL = 900
"""Seconds of a stage without a GPU, where kernels are compiled and cores are shared."""


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
    # Shared by all stages: what one has compiled the others find.
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
    """The data set: the user's photos or scenes, under as many links as a long epoch needs."""
    given = os.environ.get("GPU_PHOTOS")
    folder = Path(given) if given is not None else scenes / "JPEGImages"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    links = out / "photos"
    if not gpu or len(files) >= LINKS or not files:
        return folder
    if not links.exists():
        links.mkdir()
        for number in range(LINKS):
            file = files[number % len(files)]
            (links / f"{number:05d}{file.suffix}").symlink_to(file.absolute())
    return links


def compile_ahead(job: Job, settings: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Begin to compile the encoders of some settings in the background."""
    words = [sys.executable, "benchmarks/compile_ahead.py", *settings]
    with (job.out / "compile.txt").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)


def run_stage(stage: Stage, job: Job) -> Result:
    """Run the commands of a stage within its seconds, and keep what they said and measured."""
    began = time.perf_counter()
    result = Result(stage.name)
    for command in stage.commands(job):
        left = (stage.seconds if job.gpu else REHEARSAL) - (time.perf_counter() - began)
        done = start(command.words, left)
        log = job.out / f"{stage.name}.txt"
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(command.words)}\n{done.stdout}{done.stderr}\n")
        result.add(command, done)
    result.seconds = time.perf_counter() - began
    kept = {"machine": machine(), "versions": versions()} | asdict(result)
    (job.out / f"{stage.name}.json").write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return result


def start(words: list[str], limit: float) -> subprocess.CompletedProcess[str]:
    """Run a command to its end or to a limit, at which all that it started ends with it."""
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
    """One table of all stages; the rows of a bench below its stage."""
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
