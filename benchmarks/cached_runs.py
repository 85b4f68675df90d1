"""Whole runs from files and from the pixel cache, beside the same engine with pairs that lie ready.

    python -m benchmarks.cached_runs OUT.json data.root=DIR [KEY=VALUE ...]

The runs share a network, which is compiled once. The first epoch of a run, in which its cache
fills, is not counted. On a GPU this takes up to two minutes, most of it before and after the steps.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import write_result
from cp2fast import recipes
from cp2fast.bench.run_parts import Measured, Parts
from cp2fast.config import PretrainSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.train.distributed import ALONE, device_of

LEAST_STEPS = 15
"""Fewest steps in each of the four parts of a run, of which the first is not counted."""


def main() -> None:
    out, settings = Path(sys.argv[1]), recipes.load(PretrainSettings, "r50", sys.argv[2:])
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in compare(settings, device_of("auto", ALONE), Path(scratch)):
            runs.append(row)
            write_result(out, {"runs": runs})
            print(json.dumps(row), flush=True)


def compare(
    settings: PretrainSettings, device: torch.device, scratch: Path
) -> Iterator[dict[str, Any]]:
    """Yield the result of ready pairs, then of a loader and of a run with each kind of cache."""
    if not isinstance(root := settings.data.root, Path):
        sys.exit("data.root must be one folder")
    gpu = device.type == "cuda"
    images = len(list_images(root))
    first_epoch = -(-images // settings.data.batch_size)
    part = max(first_epoch + 1, LEAST_STEPS if gpu else 1)
    parts = Parts(settings.with_values("train", log_every=part), device, scratch, print)
    systems = parts.systems({images: root})
    ready = systems["ready"](4 * part)
    yield row_of("ready", ready, ready)
    for cache in ["off", "host", *(["gpu"] if gpu else [])]:
        parts.settings = parts.settings.with_values("data", cache=cache)
        for system in ("run", "loader"):
            measured = systems[f"{system}-{images}"](4 * part)
            yield row_of(f"{system} cache={cache}", measured, ready)
    if gpu:
        yield {"run": "idle share with cache=gpu", "gpu_idle_share": parts.idle(root, images)}


def row_of(run: str, measured: Measured, ready: Measured) -> dict[str, Any]:
    return {
        "run": run,
        "samples_per_second": measured.rate,
        "share_of_ready": measured.rate / ready.rate,
        "time": measured.time,
        "peak_memory_gib": measured.memory / 2**30,
    }


if __name__ == "__main__":
    main()
