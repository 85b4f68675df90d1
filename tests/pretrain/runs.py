"""Photos for runs of seconds, and what such runs have logged."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.command_line import Done, cp2fast

PHOTOS, BATCH = 22, 4
TINY = [
    "model.backbone=test_resnet",
    "model.head_channels=16",
    "model.size=32",
    "model.queue=64",
    "model.queue_start=random",
    f"data.batch_size={BATCH}",
    "data.workers=1",
    "train.device=cpu",
    "train.log_every=1",
]


def write_photos(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(count)
    for i in range(count):
        height, width = random.integers(20, 90, 2)
        coarse = random.integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:03}.jpg", quality=90)
    return folder


def words(out: Path, photos: Path, *more: str) -> list[str]:
    """Of a run on ``photos`` with ``more`` settings and options."""
    options = [word for word in more if word.startswith("--")]
    settings = [word for word in more if not word.startswith("--")]
    return ["pretrain", *TINY, f"data.root={photos}", *settings, "--out", str(out), *options]


def run(out: Path, photos: Path, *more: str) -> Done:
    return cp2fast(*words(out, photos, *more))


def command(out: Path, photos: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "cp2fast", *words(out, photos, *more)]


def run_apart(out: Path, photos: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, with that process's number of threads."""
    return subprocess.run(command(out, photos, *more), capture_output=True, text=True, check=False)


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[tuple[float, ...]]:
    names = ("step", "loss", "loss_instance", "loss_dense", "accuracy_instance", "similarity_gap")
    return [tuple(row[name] for name in names) for row in metrics(out)]


def start(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(out: Path, step: int, process: "subprocess.Popen[str]") -> None:
    """Return when the run has logged this step."""
    deadline = time.monotonic() + 600  # of a process that hangs; how fast it is does not matter
    file = out / "metrics.jsonl"
    while not file.exists() or len(file.read_text().splitlines()) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
