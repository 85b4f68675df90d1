"""Memory over twenty epochs of whole runs: flat, or not, with each way to cache.

    python -m benchmarks.soak_runs FOLDER [RESULT.json] [--epochs 20] [--images 320]

Runs of a small network without a cache, with all images in it, with half of them, and of two
processes that share one. Each logs once an epoch; the memory of all its processes is then read,
shared memory once. Growth is judged as in ``soak.py``; the exit code is 1 if a run is not flat. Of
two processes, the file also says how much of the cache each has mapped, and how much both are
charged for it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import start_pretraining
from benchmarks.soak import children_of, conclude, resident, shared_cache
from cp2fast.bench.run_parts import data_set
from cp2fast.config import DataSettings
from cp2fast.data.cache.sizes import decoded_bytes
from cp2fast.data.image_sets.listing import list_images

BATCH = 32
TINY = ["model.backbone=resnet18", "model.size=64", "model.head_channels=16", "model.queue=64"]
LOOK_SECONDS = 0.05


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("result", type=Path, nargs="?")
    arguments.add_argument("--epochs", type=int, default=20)
    arguments.add_argument("--images", type=int, default=320)
    chosen = arguments.parse_args()
    found: dict[str, list[float]] = {}
    caches: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = data_set(list_images(chosen.folder), chosen.images, Path(scratch, "photos"))
        runs = {
            "off": (1, ["data.cache=off"]),
            "host": (1, ["data.cache=host"]),
            "half": (1, ["data.cache=host", f"data.cache_gib={_gib(root) / 2}"]),
            "host, two processes": (2, ["data.cache=host"]),
        }
        for name, (processes, settings) in runs.items():
            settings = [f"data.root={root}", *settings]
            out = Path(scratch, f"run-{len(found)}")
            found[name], caches[name] = _run(settings, out, processes, chosen)
            print(f"{name}: {found[name][-1]:.0f} MiB", flush=True)
    about = {"images": chosen.images, "batch_size": BATCH, "cache_of_each_process": caches}
    conclude(found, chosen.result, about)


def _gib(root: Path) -> float:
    """Size of all images, decoded."""
    images, limit = list_images(root), DataSettings().max_pixels
    numbers = np.arange(len(images))
    found = decoded_bytes(images, numbers, 1 << 60, threads=1, max_pixels=limit, max_side=None)
    return int(found.bytes.sum()) / 2**30


def _run(
    settings: list[str], out: Path, processes: int, chosen: argparse.Namespace
) -> tuple[list[float], list[dict[str, float]]]:
    """MiB after each epoch, and each process's share of the cache in the last one."""
    per_epoch = chosen.images // BATCH
    steps = chosen.epochs * per_epoch + 1  # One more, so that the last epoch can be looked at.
    words = [*TINY, *settings, f"data.batch_size={BATCH // processes}", f"train.steps={steps}"]
    words += ["train.compile=off", f"train.log_every={per_epoch}"]
    found, of_cache = list[float](), list[dict[str, float]]()
    with start_pretraining("demo", words, out, processes) as run:
        while run.poll() is None:
            time.sleep(LOOK_SECONDS)
            if _rows(out / "metrics.jsonl") > len(found) and len(found) < chosen.epochs:
                try:
                    found.append(resident(run.pid))
                    of_cache = _caches(run.pid) or of_cache
                except OSError:  # The run has ended meanwhile.
                    break
    if run.returncode:
        sys.exit(f"the run {' '.join(words)} ended with exit code {run.returncode}")
    return found, of_cache


def _rows(metrics: Path) -> int:
    return len(metrics.read_bytes().splitlines()) if metrics.exists() else 0


def _caches(pid: int) -> list[dict[str, float]]:
    """The cache of a process and of its descendants, as far as they have one."""
    mapped, charged = shared_cache(pid)
    own = [{"mapped": mapped, "charged": charged}] if mapped else []
    return own + [found for child in children_of(pid) for found in _caches(child)]


if __name__ == "__main__":
    main()
