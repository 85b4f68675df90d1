"""Runs from files and from the pixel cache: samples per second after the first epoch.

python -m benchmarks.cached_runs OUT.json data.root=DIR [KEY=VALUE ...]

Each run is a process of its own, as a user starts it. It takes four epochs or 60 steps, whichever
is more; the first epoch, in which the cache fills, is not counted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import SMALL_NETWORK, pretrain, write_result
from cp2fast import recipes
from cp2fast.config import PretrainSettings
from cp2fast.data.image_sets.listing import list_images

EPOCHS, LEAST_STEPS = 4, 60


def main() -> None:
    out, settings = Path(sys.argv[1]), sys.argv[2:]
    data = recipes.load(PretrainSettings, "r50", settings).data
    if data.root is None:
        sys.exit("data.root is not set")
    images, batch = len(list_images(data.root)), data.batch_size
    steps_per_epoch = max(1, images // batch)
    steps = max(EPOCHS * steps_per_epoch, LEAST_STEPS if torch.cuda.is_available() else 4)
    compared: dict[str, tuple[list[str], list[str]]] = {
        "resnet18_128": (SMALL_NETWORK, ["off", "gpu", "host"]),
        "resnet50_224": ([], ["off", "gpu"]),
    }
    if not torch.cuda.is_available():  # a rehearsal, which sets a network of its own
        compared = {"resnet18_128": (SMALL_NETWORK, ["off", "host"])}
    runs: list[dict[str, Any]] = []
    for name, (recipe, caches) in compared.items():
        for cache in caches:
            given = [*recipe, *settings, f"data.cache={cache}"]
            runs.append({"run": name, "cache": cache} | run(given, steps, steps_per_epoch))
            write_result(out, {"runs": runs})
    for row in runs:
        print(f"{row['run']} cache={row['cache']}: {row['samples_per_second']:.0f} samples/s")


def run(settings: list[str], steps: int, steps_per_epoch: int) -> dict[str, Any]:
    """Pretrain, and the median rate of the logged steps after the first epoch."""
    with tempfile.TemporaryDirectory() as folder:
        given = [*settings, f"train.steps={steps}", "train.log_every=2"]
        rows = pretrain("r50", given, Path(folder, "run"))
    settled = [row for row in rows if row["step"] > steps_per_epoch + 2] or rows[-1:]
    return {
        "samples_per_second": median(row["images_per_second"] for row in settled),
        "data_wait": median(row["data_wait"] for row in settled),
        "steps": steps,
        "steps_per_epoch": steps_per_epoch,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
