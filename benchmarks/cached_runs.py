"""Runs from files and from the pixel cache, beside each other: samples a second once settled.

python benchmarks/cached_runs.py OUT.json data.root=DIR [KEY=VALUE ...]

Each run is a process of its own, as a user starts it. It passes over the photos four times or makes
60 steps, whichever is more; the first epoch, in which the cache fills, is left out of its figure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from cp2fast.data.image_sets.listing import list_images
from cp2fast.machine import machine, versions

SMALL = ["model.backbone=resnet18", "model.head_channels=128", "model.size=128"]
EPOCHS, LEAST_STEPS, BATCH = 4, 60, 256


def main() -> None:
    out, settings = Path(sys.argv[1]), sys.argv[2:]
    root = next(word.partition("=")[2] for word in settings if word.startswith("data.root="))
    batch = next(
        (int(word.partition("=")[2]) for word in settings if word.startswith("data.batch_size=")),
        BATCH,
    )
    images = len(list_images(Path(root)))
    steps_per_epoch = max(1, images // batch)
    steps = max(EPOCHS * steps_per_epoch, LEAST_STEPS if torch.cuda.is_available() else 4)
    compared: dict[str, tuple[list[str], list[str]]] = {
        "resnet18_128": (SMALL, ["off", "gpu", "host"]),
        "resnet50_224": ([], ["off", "gpu"]),
    }
    if not torch.cuda.is_available():  # a rehearsal, which sets a network of its own
        compared = {"resnet18_128": (SMALL, ["off", "host"])}
    runs: list[dict[str, Any]] = []
    for name, (recipe, caches) in compared.items():
        for cache in caches:
            given = [f"data.batch_size={batch}", *recipe, *settings, f"data.cache={cache}"]
            runs.append({"run": name, "cache": cache} | run(given, steps, steps_per_epoch))
            result = {"machine": machine(), "versions": versions(), "runs": runs}
            out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for row in runs:
        print(f"{row['run']} cache={row['cache']}: {row['samples_per_second']:.0f} samples/s")


def run(settings: list[str], steps: int, steps_per_epoch: int) -> dict[str, Any]:
    """Pretrain, and the median rate of the logged steps after the first epoch."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        words = [sys.executable, "-m", "cp2fast", "pretrain", "r50", *settings]
        words += [f"train.steps={steps}", "train.log_every=2", "--out", str(out)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
        lines = (out / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    settled = [row for row in rows if row["step"] > steps_per_epoch + 2] or rows[-1:]
    return {
        "samples_per_second": median(row["images_per_second"] for row in settled),
        "data_wait": median(row["data_wait"] for row in settled),
        "steps": steps,
        "steps_per_epoch": steps_per_epoch,
        "said": done.stdout.splitlines(),
        "rows": rows,
    }


if __name__ == "__main__":
    main()
