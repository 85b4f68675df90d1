"""The cost of two processes over one, with the same samples per step on the same cores.

    python -m benchmarks.ranks FOLDER [RESULT.json]

One process with all cores alternates with two under torchrun (gloo) with half of them each. Rates
are from the runs' metrics, without the first logged step.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import fmean, median

from benchmarks.common import SMALL_NETWORK, pretrain, write_result

ROUNDS, STEPS, BATCH = 3, 24, 32
SETTINGS = [*SMALL_NETWORK, "model.queue=1024", "data.workers=1"]
SETTINGS += ["train.log_every=4", f"train.steps={STEPS}"]
PROCESSES = (1, 2)


def rate(folder: Path, out: Path, processes: int) -> float:
    """Samples per second over all processes."""
    settings = [*SETTINGS, f"data.root={folder}", f"data.batch_size={BATCH // processes}"]
    rows = pretrain("demo", settings, out, processes)
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
        "settings": {"recipe": "demo", "overrides": SETTINGS, "samples_per_step": BATCH},
        "samples_per_second": {str(processes): found for processes, found in rates.items()},
        "overhead": median(overheads),
        "spread": max(overheads) - min(overheads),
    }
    print(f"two processes take {median(overheads):.0%} more time than one")
    if len(sys.argv) > 2:
        write_result(Path(sys.argv[2]), result)


if __name__ == "__main__":
    main()
