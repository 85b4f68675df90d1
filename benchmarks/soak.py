"""Memory over many epochs of decoding: flat, or not.

    python benchmarks/soak.py FOLDER [RESULT.json]

FOLDER holds photos (or tar shards, or name a .beton). Each source that works here decodes twenty
epochs of them; after each epoch the memory that this process and its workers hold is read. The
batches in the making are part of it, and differ in size, so the judgement is by the trend: the
straight line through the epochs from the third on. The table goes to the screen, the figures to
the file; the exit code is 1 if a source is not flat.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line; before torch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cp2fast.config import DataSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import available_sources, choose_source
from cp2fast.data.sources.open import open_source
from cp2fast.machine import machine, versions

EPOCHS, BATCH_SIZE = 20, 64
SETTLED, ALLOWED = 3, 0.02
"""From this epoch to the last, the trend may be this share of the mean."""
PAUSE, STEADY = 1.0, 1.0
"""Seconds between two readings, and MiB by which they may differ once the batches in the making are
made: so every epoch's reading holds as many."""


def main() -> None:
    root = Path(sys.argv[1])
    sources = [name for name, problem in available_sources().items() if problem is None]
    # Each in a process of its own: what one leaves behind is not the next one's.
    mebibytes = {name: _in_a_process(root, name) for name in sources}
    table = Table("epoch", *sources)
    for epoch in range(EPOCHS):
        table.add_row(str(epoch + 1), *(f"{mebibytes[name][epoch]:.0f} MiB" for name in sources))
    growth = {name: growth_of(values) for name, values in mebibytes.items()}
    table.add_row(f"{SETTLED} to {EPOCHS}", *(f"{growth[name]:+.1%}" for name in sources))
    Console().print(table)
    flat = {name: abs(share) <= ALLOWED for name, share in growth.items()}
    print(", ".join(f"{name}: {'flat' if flat[name] else 'NOT FLAT'}" for name in sources))
    if len(sys.argv) > 2:
        report = {
            "machine": machine(),
            "versions": versions(),
            "images": len(list_images(root)),
            "batch_size": BATCH_SIZE,
            "mebibytes": mebibytes,
            "growth": growth,
            "flat": flat,
        }
        Path(sys.argv[2]).write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if all(flat.values()) else 1)


def _in_a_process(root: Path, source: str) -> list[float]:
    command = [sys.executable, __file__, str(root), "--source", source]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [float(line) for line in done.stdout.split()]


def soak(root: Path, source: str) -> None:
    """Print the memory after each epoch, in MiB."""
    images = list_images(root)
    settings = DataSettings(source=source, workers=len(os.sched_getaffinity(0)))
    device = torch.device("cpu")
    per_epoch = steps_per_epoch(len(images), BATCH_SIZE)
    order = plan(
        seed=0, count=len(images), batch_size=BATCH_SIZE, start=0, stop=(EPOCHS + 1) * per_epoch
    )
    with tempfile.TemporaryDirectory() as folder:
        bad = BadImages(Path(folder), max_fraction=1)
        choice = choose_source(settings, images, device)
        batches = open_source(choice, settings, images, order, 0, device, bad)
        for step, batch in enumerate(batches, 1):
            int(batch.pixels[-1])  # the batch is there and can be read
            if step % per_epoch == 0 and step <= EPOCHS * per_epoch:
                print(f"{_settled():.1f}", flush=True)


def _settled() -> float:
    """MiB of this process and its workers, once that no longer changes."""
    before, now = math.inf, resident(os.getpid())
    while abs(now - before) > STEADY:
        time.sleep(PAUSE)
        before, now = now, resident(os.getpid())
    return now


def resident(pid: int) -> float:
    """MiB of a process and of those below it; memory that they share is counted once."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    shares = [int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")]
    return sum(shares) / 1024 + sum(map(resident, children_of(pid)))


def children_of(pid: int) -> list[int]:
    """Processes that any of its threads has started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text(encoding="utf-8").split()]


def growth_of(mebibytes: list[float]) -> float:
    """The rise of the trend over the settled epochs, as a share of their mean."""
    settled = np.array(mebibytes[SETTLED - 1 :])
    slope = np.polyfit(np.arange(len(settled)), settled, 1)[0]
    return float(slope * (len(settled) - 1) / settled.mean())


if __name__ == "__main__":
    if "--source" in sys.argv:
        soak(Path(sys.argv[1]), sys.argv[3])
    else:
        main()
