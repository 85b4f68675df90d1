"""Memory over twenty epochs of whole runs: flat, or not, with each way to cache.

    python benchmarks/soak_runs.py FOLDER [RESULT.json] [--epochs 20] [--images 320]

Runs of a small network without a cache, with all images in it, with half of them, and of two
processes that share one. Each logs once an epoch; the memory of all its processes is then read,
shared memory once. The judgement is by the trend, as in ``soak.py``; the exit code is 1 if one is
not flat. Of two processes, the file says besides what each maps of the cache and what both are
charged for it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from soak import ALLOWED, children_of, growth_of, resident

from cp2fast.bench.run_parts import data_set
from cp2fast.config import DataSettings
from cp2fast.data.cache.sizes import decoded_bytes
from cp2fast.data.image_sets.listing import list_images
from cp2fast.machine import machine, versions

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
    with tempfile.TemporaryDirectory() as scratch:
        root = data_set(list_images(chosen.folder), chosen.images, Path(scratch, "photos"))
        sizes, _ = decoded_bytes(
            list_images(root),
            np.arange(chosen.images),
            1 << 60,
            threads=1,
            max_pixels=DataSettings().max_pixels,
            max_side=None,
        )
        half = int(sizes.sum()) / 2 / 2**30
        runs: dict[str, tuple[int, list[str]]] = {
            "off": (1, ["data.cache=off"]),
            "host": (1, ["data.cache=host"]),
            "half": (1, ["data.cache=host", f"data.cache_gib={half}"]),
            "host, two processes": (2, ["data.cache=host"]),
        }
        found: dict[str, list[float]] = {}
        caches: dict[str, Any] = {}
        for name, (processes, settings) in runs.items():
            found[name], caches[name] = _run(
                root, Path(scratch, f"run-{len(found)}"), settings, processes, chosen
            )
            print(f"{name}: {found[name][-1]:.0f} MiB", flush=True)
    growth = {name: growth_of(values) for name, values in found.items()}
    flat = {name: abs(share) <= ALLOWED for name, share in growth.items()}
    table = Table("epoch", *found)
    for epoch, row in enumerate(zip(*found.values(), strict=False), 1):
        table.add_row(str(epoch), *(f"{value:.0f} MiB" for value in row))
    table.add_row("trend", *(f"{growth[name]:+.1%}" for name in found))
    Console().print(table)
    print(", ".join(f"{name}: {'flat' if flat[name] else 'NOT FLAT'}" for name in found))
    if chosen.result is not None:
        report = {
            "machine": machine(),
            "versions": versions(),
            "images": chosen.images,
            "batch_size": BATCH,
            "mebibytes": found,
            "growth": growth,
            "flat": flat,
            "cache_of_each_process": caches,
        }
        chosen.result.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(flat.values()) else 1)


def _run(
    root: Path, out: Path, settings: list[str], processes: int, chosen: argparse.Namespace
) -> tuple[list[float], list[dict[str, float]]]:
    """MiB after each epoch, and what each process holds of the cache in the last one."""
    per_epoch = chosen.images // BATCH
    steps = chosen.epochs * per_epoch + 1  # One more, so that the last epoch can be looked at.
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    words = [*launcher, "cp2fast", "pretrain", "demo", *TINY, *settings, f"data.root={root}"]
    words += [f"data.batch_size={BATCH // processes}", f"train.steps={steps}", "train.compile=off"]
    words += [f"train.log_every={per_epoch}", "--out", str(out)]
    threads = str(max(1, len(os.sched_getaffinity(0)) // processes))
    found, of_cache = list[float](), list[dict[str, float]]()
    with subprocess.Popen(
        words, env={**os.environ, "OMP_NUM_THREADS": threads}, stdout=subprocess.DEVNULL
    ) as run:
        while run.poll() is None:
            time.sleep(LOOK_SECONDS)
            if _rows(out / "metrics.jsonl") > len(found) and len(found) < chosen.epochs:
                try:
                    found.append(resident(run.pid))
                    of_cache = _of_cache(run.pid) or of_cache
                except OSError:  # It ended meanwhile.
                    break
    if run.returncode:
        sys.exit(f"{' '.join(words)} ended with exit code {run.returncode}")
    return found, of_cache


def _rows(metrics: Path) -> int:
    return len(metrics.read_bytes().splitlines()) if metrics.exists() else 0


def _of_cache(pid: int) -> list[dict[str, float]]:
    """MiB of a shared cache that a process and those below it map, and are charged with."""
    text = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    maps = re.findall(r"memfd:cp2fast-cache.*?\nRss: +(\d+).*?\nPss: +(\d+)", text, re.S)
    own = {"mapped": 0.0, "charged": 0.0}
    for rss, pss in maps:
        own["mapped"] += int(rss) / 1024
        own["charged"] += int(pss) / 1024
    return [own] * bool(maps) + [found for child in children_of(pid) for found in _of_cache(child)]


if __name__ == "__main__":
    main()
