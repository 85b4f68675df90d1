"""What two processes cost over one: the same samples a step, on the same cores.

    python benchmarks/ranks.py FOLDER [RESULT.json]

One process with all cores, against two under torchrun (gloo) with half of them each. Steady rates
from the runs' own metrics, the first logged step left out; rounds alternate.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, median

from cp2fast.machine import machine, versions

ROUNDS, STEPS, BATCH = 3, 24, 32
SETTINGS = ["model.backbone=resnet18", "model.head_channels=128", "model.size=128"]
SETTINGS += ["model.queue=1024", "data.workers=1", "train.log_every=4", f"train.steps={STEPS}"]
PROCESSES = (1, 2)


def rate(folder: Path, out: Path, processes: int) -> float:
    """Samples a second over all processes."""
    cores = len(os.sched_getaffinity(0))
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    settings = [*SETTINGS, f"data.root={folder}", f"data.batch_size={BATCH // processes}"]
    subprocess.run(
        [*launcher, "cp2fast", "pretrain", "demo", *settings, "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": str(max(1, cores // processes))},
        check=True,
        capture_output=True,
    )
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return fmean(row["images_per_second"] for row in rows[1:])


def main() -> None:
    rates: dict[int, list[float]] = {processes: [] for processes in PROCESSES}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(ROUNDS):
            for processes in PROCESSES:
                out = Path(scratch) / f"{number}-{processes}"
                rates[processes].append(rate(Path(sys.argv[1]), out, processes))
                print(f"{processes} processes: {rates[processes][-1]:.2f} samples/s", flush=True)
    overheads = [one / two - 1 for one, two in zip(rates[1], rates[2], strict=True)]
    result = {
        "machine": machine(),
        "versions": versions(),
        "settings": {"recipe": "demo", "overrides": SETTINGS, "samples_per_step": BATCH},
        "samples_per_second": {str(processes): found for processes, found in rates.items()},
        "overhead": median(overheads),
        "spread": max(overheads) - min(overheads),
    }
    print(f"two processes take {median(overheads):.0%} more time than one")
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
