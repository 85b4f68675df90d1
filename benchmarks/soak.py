"""Memory over many epochs of decoding: flat, or not.

    python -m benchmarks.soak FOLDER [RESULT.json]

FOLDER holds photos or tar shards, or is a .beton. Each source that works here decodes twenty epochs
of them; after each epoch the memory of this process and its workers is read. It includes batches in
progress, whose sizes differ, so growth is judged by the trend: a straight line through the epochs
from the third on. The table goes to the screen, the figures to the file; the exit code is 1 if a
source is not flat.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line; before torch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import write_result
from cp2fast.config import DataSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import available_sources, choose_source
from cp2fast.data.sources.open import open_source

EPOCHS, BATCH_SIZE = 20, 64
SETTLED, ALLOWED = 3, 0.02
"""From this epoch to the last, memory may grow by this share of its mean."""
PAUSE, STEADY = 1.0, 1.0
"""Seconds between two readings, and MiB by which they may differ once no batch is in progress, so
that every epoch's reading includes the same number of batches."""


def main() -> None:
    root = Path(sys.argv[1])
    sources = [name for name, problem in available_sources().items() if problem is None]
    # Each in its own process, so that none inherits memory from the one before.
    mebibytes = {str(name): _in_a_process(root, name) for name in sources}
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    conclude(mebibytes, out, {"images": len(list_images(root)), "batch_size": BATCH_SIZE})


def _in_a_process(root: Path, source: str) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.soak", str(root), "--source", source]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [float(line) for line in done.stdout.split()]


def soak(root: Path, source: str) -> None:
    """Print the memory after each epoch, in MiB."""
    images = list_images(root)
    settings = DataSettings(source=source, workers=len(os.sched_getaffinity(0)))
    device = torch.device("cpu")
    per_epoch = steps_per_epoch(len(images), BATCH_SIZE)
    stop = (EPOCHS + 1) * per_epoch
    order = plan(seed=0, count=len(images), batch_size=BATCH_SIZE, stop=stop)
    with tempfile.TemporaryDirectory() as folder:
        bad = BadImages(Path(folder), max_fraction=1)
        choice = choose_source(settings, images, device)
        batches = open_source(choice, settings, images, order, 0, device, bad)
        for step, batch in enumerate(batches, 1):
            int(batch.pixels[-1])  # the batch is there and can be read
            if step % per_epoch == 0 and step <= EPOCHS * per_epoch:
                print(f"{_settled():.1f}", flush=True)


def _settled() -> float:
    """MiB of this process and its workers, once it no longer changes."""
    before, now = math.inf, resident(os.getpid())
    while abs(now - before) > STEADY:
        time.sleep(PAUSE)
        before, now = now, resident(os.getpid())
    return now


def resident(pid: int) -> float:
    """MiB of a process and its descendants; memory that they share is counted once."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    shares = [int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")]
    return sum(shares) / 1024 + sum(map(resident, children_of(pid)))


def children_of(pid: int) -> list[int]:
    """Processes that any of its threads has started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text(encoding="utf-8").split()]


def shared_cache(process: int | str) -> tuple[float, float]:
    """MiB of a shared pixel cache that a process has mapped, and those it is charged with."""
    text = Path(f"/proc/{process}/smaps").read_text(encoding="utf-8")
    maps = re.findall(r"memfd:cp2fast-cache.*?\nRss: +(\d+).*?\nPss: +(\d+)", text, re.S)
    return sum(int(rss) for rss, _ in maps) / 1024, sum(int(pss) for _, pss in maps) / 1024


def conclude(
    mebibytes: Mapping[str, list[float]], out: Path | None, about: Mapping[str, Any]
) -> NoReturn:
    """Print the memory after each epoch, write the result, and end with exit code 0 if all flat."""
    growth = {name: _growth(values) for name, values in mebibytes.items()}
    flat = {name: abs(share) <= ALLOWED for name, share in growth.items()}
    table = Table("epoch", *mebibytes)
    for epoch, row in enumerate(zip(*mebibytes.values(), strict=False), 1):
        table.add_row(str(epoch), *(f"{value:.0f} MiB" for value in row))
    table.add_row(f"trend from {SETTLED}", *(f"{share:+.1%}" for share in growth.values()))
    Console().print(table)
    print(", ".join(f"{name}: {'flat' if flat[name] else 'NOT FLAT'}" for name in flat))
    if out is not None:
        write_result(out, {**about, "mebibytes": mebibytes, "growth": growth, "flat": flat})
    sys.exit(0 if all(flat.values()) else 1)


def _growth(mebibytes: list[float]) -> float:
    """The rise of the trend over the settled epochs, as a share of their mean."""
    settled = np.array(mebibytes[SETTLED - 1 :])
    slope = np.polyfit(np.arange(len(settled)), settled, 1)[0]
    return float(slope * (len(settled) - 1) / settled.mean())


if __name__ == "__main__":
    if "--source" in sys.argv:
        soak(Path(sys.argv[1]), sys.argv[3])
    else:
        main()
