"""Run everything that a GPU must prove and gather it in one JSON and one table; see gpu.sh.

Each stage is a process of its own with a time limit, so that one that hangs or dies leaves the
others their turn. Without a GPU the stages that need one are left out, saying so, and the others
run at a size that a CPU can take.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cp2fast.bench.machine import machine, versions
from cp2fast.data.scenes import generate_scenes
from cp2fast.data.source import available_sources

GPU = torch.cuda.is_available()
SCENES = 512
ENDS = time.perf_counter() + 580
"""All stages together have ten minutes; the last are cut short if the first take too long."""
OPTIONAL = {
    "kornia": "pip install kornia",
    "pytest": "pip install pytest",
    "hypothesis": "pip install hypothesis",
}
SMALL = ["model.backbone=resnet18", "model.size=64", "model.head_channels=32", "model.queue=256"]


@dataclass
class Stage:
    """What one stage did.

    Attributes:
        name: of the stage.
        status: ``done``, ``failed`` or ``left out``.
        detail: one line.
        seconds: that it took.
        result: figures, as the stage gives them.
    """

    name: str
    status: str
    detail: str
    seconds: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    photos, out = Path(sys.argv[1]) if sys.argv[1] else None, Path(sys.argv[2])
    if out.exists():
        sys.exit(f"{out} exists already: name another folder")
    out.mkdir(parents=True)
    if photos is None:
        photos = out / "scenes"
        generate_scenes(photos, SCENES, seed=0)
    missing = {name: fix for name, fix in OPTIONAL.items() if find_spec(name) is None}
    if problem := available_sources()["dali"]:
        missing["nvidia.dali"] = problem
    console = Console(soft_wrap=True, highlight=False)
    for name, fix in missing.items():
        console.print(f"{name} is missing, what needs it is left out: {fix}")
    stages = []
    for stage in STAGES:
        console.print(f"{stage.__name__.replace('_', ' ')} ...")
        stages.append(stage(photos, out, missing))
        console.print(f"  {stages[-1].status}: {stages[-1].detail}")
        write(out, missing, stages)
    show(console, stages)
    sys.exit(any(stage.status == "failed" for stage in stages))


def gpu_tests(photos: Path, out: Path, missing: dict[str, str]) -> Stage:
    """The tests marked ``gpu``."""
    name = "gpu tests"
    needed = [package for package in ("pytest", "hypothesis", "kornia") if package in missing]
    if not GPU or needed:
        return Stage(name, "left out", "no GPU" if not GPU else f"{', '.join(needed)} missing")
    done, seconds = run(["pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests"], 240)
    (out / "gpu_tests.txt").write_text(done.stdout + done.stderr)
    last = (done.stdout.strip().splitlines() or ["nothing said"])[-1]
    return Stage(name, "done" if done.returncode == 0 else "failed", last, seconds)


def memory_check(photos: Path, out: Path, missing: dict[str, str]) -> Stage:
    """Compute-sanitizer's memcheck on a small case of the CUDA op."""
    name, tool = "memcheck", shutil.which("compute-sanitizer")
    if not GPU or tool is None:
        return Stage(name, "left out", "no GPU" if not GPU else "compute-sanitizer is not there")
    command = [tool, "--tool", "memcheck", "--error-exitcode", "9", sys.executable]
    done, seconds = in_time([*command, "benchmarks/small_case.py"], 120)
    (out / "memcheck.txt").write_text(done.stdout + done.stderr)
    summary = [line for line in done.stdout.splitlines() if "ERROR SUMMARY" in line]
    detail = summary[-1].strip("= ") if summary else f"exit code {done.returncode}"
    return Stage(name, "done" if done.returncode == 0 else "failed", detail, seconds)


def bench_augment(photos: Path, out: Path, missing: dict[str, str]) -> Stage:
    """Decoded photos to composed pairs."""
    batch = "data.batch_size=256" if GPU else "data.batch_size=16"
    return bench("augment", out, [f"data.root={photos}", batch, *([] if GPU else SMALL)])


def bench_train(photos: Path, out: Path, missing: dict[str, str]) -> Stage:
    """Composed pairs to updated weights."""
    return bench("train", out, [] if GPU else [*SMALL, "data.batch_size=4"])


def bench_loader(photos: Path, out: Path, missing: dict[str, str]) -> Stage:
    """Photos to composed pairs; the CPU decodes, and the GPU too where DALI is there."""
    return bench("loader", out, [f"data.root={photos}", *([] if GPU else SMALL)])


def profile(photos: Path, out: Path, missing: dict[str, str]) -> Stage:
    """The kernels of a training step, and the time between them."""
    if not GPU:
        return Stage("profile", "left out", "no GPU")
    file = out / "profile.json"
    done, seconds = in_time([sys.executable, "benchmarks/profile_step.py", str(file)], 120)
    return finish("profile", done, seconds, file)


def train_on_photos(photos: Path, out: Path, missing: dict[str, str]) -> Stage:
    """A run from files to weights: samples a second and the share that it waits for images."""
    batch = 256 if GPU else 8
    images = sum(1 for path in photos.rglob("*") if path.is_file())
    batch = min(batch, max(3, images // 2))
    settings = [f"data.root={photos}", f"data.batch_size={batch}", "train.log_every=5"]
    settings += ["train.steps=60", f"data.workers={os.cpu_count()}"] if GPU else []
    settings += [] if GPU else [*SMALL, "train.steps=6"]
    folder = out / "run"
    arguments = ["cp2fast", "pretrain", "r50", *settings, "--out", str(folder)]
    done, seconds = run(arguments, 240)
    metrics = folder / "metrics.jsonl"
    if done.returncode or not metrics.exists():
        return finish("train on photos", done, seconds, metrics)
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    settled = rows[len(rows) // 2 :]
    rate = max(row["images_per_second"] for row in settled)
    wait = min(row["data_wait"] for row in settled)
    shutil.rmtree(folder / "checkpoints")
    result = {"images_per_second": rate, "data_wait": wait, "batch_size": batch, "steps": rows}
    detail = f"{rate:.0f} samples/s, waiting for images {wait:.0%} of the time"
    return Stage("train on photos", "done", detail, seconds, result)


STAGES: list[Callable[[Path, Path, dict[str, str]], Stage]] = [
    gpu_tests,
    memory_check,
    bench_augment,
    bench_train,
    bench_loader,
    profile,
    train_on_photos,
]


def bench(what: str, out: Path, settings: list[str]) -> Stage:
    file = out / f"bench_{what}.json"
    rounds = ["--rounds", "3", "--seconds", "1.5"] if GPU else ["--rounds", "1", "--seconds", "0.1"]
    done, seconds = run(["cp2fast", "bench", what, *settings, *rounds, "--json", str(file)], 180)
    return finish(f"bench {what}", done, seconds, file)


def finish(name: str, done: subprocess.CompletedProcess[str], seconds: float, file: Path) -> Stage:
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "nothing said").splitlines()
        return Stage(name, "failed", f"exit code {done.returncode}: {lines[-1]}", seconds)
    result = json.loads(file.read_text())
    return Stage(name, "done", str(result.get("bottleneck", file)), seconds, result)


def run(module: list[str], limit: float) -> tuple[subprocess.CompletedProcess[str], float]:
    return in_time([sys.executable, "-m", *module], limit)


def in_time(command: list[str], limit: float) -> tuple[subprocess.CompletedProcess[str], float]:
    """``start``, within what is left of the time for all stages."""
    return start(command, max(0.0, min(limit, ENDS - time.perf_counter())))


def start(command: list[str], limit: float) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a command to its end or to a limit, at which all that it started ends with it."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        code, errors = 124, f"{errors}\nnot done after {limit:.0f} s"
    done = subprocess.CompletedProcess(command, code, output, errors)
    return done, time.perf_counter() - began


def write(out: Path, missing: dict[str, str], stages: list[Stage]) -> None:
    """After every stage, so that what was measured outlives a machine that is taken away."""
    result = {
        "machine": machine(),
        "versions": versions(),
        "missing": missing,
        "stages": [asdict(stage) for stage in stages],
    }
    (out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")


def show(console: Console, stages: list[Stage]) -> None:
    table = Table("stage", "", "seconds", "", title=str(machine()["gpu"]))
    for stage in stages:
        table.add_row(stage.name, stage.status, f"{stage.seconds:.0f}", stage.detail)
        for row in stage.result.get("results", []):
            rate, ratio = row["images_per_second"], row["ratio_to_original"]
            times = "" if ratio is None else f", {ratio:.1f} times the original"
            table.add_row("", row["system"], "", f"{rate:.1f} images/s{times}")
    console.print(table)


if __name__ == "__main__":
    main()
