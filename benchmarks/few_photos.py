"""The cost of a run in addition to its steps: few photos compared with many, and checkpoints.

    python -m benchmarks.few_photos FOLDER [RESULT.json] [--only rates|saving]

``rates``: a run on 40 and one on 500 photos of FOLDER at the same time, with the same settings and
a core each, which they swap from round to round: what else disturbs the machine then disturbs both.
Rates are from the runs' metrics, without the first logged row. ``saving``: a run that saves every
few seconds shows the longest time for which a checkpoint holds up a step; one that saves every
minute, ten times as often as by default, shows the share of time spent on saving. Fifteen minutes
on two cores, six of them for ``saving``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import SMALL_NETWORK, pretrain, start_pretraining
from cp2fast.bench.run_parts import data_set
from cp2fast.data.image_sets.listing import list_images
from cp2fast.machine import machine, versions
from cp2fast.run_folder import RunFolder, read_metrics

ROUNDS, STEPS, BATCH, COUNTS = 4, 40, 32, (40, 500)
RATE_STEPS = 24
SETTINGS = [*SMALL_NETWORK, "model.queue=1024", f"data.batch_size={BATCH}", "train.log_every=4"]
MINUTES, CHECKPOINT_MINUTES = 4, 1


def run(photos: Path, out: Path, *settings: str) -> list[dict[str, Any]]:
    """The logged rows of a run."""
    return pretrain("demo", [*SETTINGS, f"data.root={photos}", *settings], out)


def seconds(row: dict[str, Any], steps: int) -> float:
    """The time that a row covers."""
    return float(steps * BATCH / row["images_per_second"])


def measure_rates(folder: Path, photos: dict[int, Path]) -> dict[str, Any]:
    """Runs on few and on many photos at the same time; the rates of each round are a pair."""
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    cores = sorted(os.sched_getaffinity(0))
    for number in range(ROUNDS):
        outs = {count: folder / f"{number}-{count}" for count in COUNTS}
        running = []
        for count, core in zip(COUNTS[:: 1 if number % 2 else -1], cores, strict=False):
            os.sched_setaffinity(0, {core})  # for the child, which inherits it
            words = [*SETTINGS, f"data.root={photos[count]}", f"train.steps={RATE_STEPS}"]
            running.append(start_pretraining("demo", words, outs[count]))
        os.sched_setaffinity(0, cores)
        if sum(process.wait() for process in running):
            sys.exit("a pretraining failed")
        for count, out in outs.items():
            rows = read_metrics(RunFolder(out).metrics)
            rates[count].append(median(row["images_per_second"] for row in rows[1:]))
        print(", ".join(f"{n} photos: {found[-1]:.2f} samples/s" for n, found in rates.items()))
    few, many = (rates[count] for count in COUNTS)
    ratios = [a / b for a, b in zip(few, many, strict=True)]
    print(f"{COUNTS[0]} photos make {median(ratios):.3f} of the rate of {COUNTS[1]}", flush=True)
    return {
        "samples_per_second": {str(count): found for count, found in rates.items()},
        "few_over_many": median(ratios),
        "few_over_many_by_round": ratios,
    }


def measure_saving(folder: Path, photos: Path) -> dict[str, Any]:
    """The longest hold-up of many checkpoints, and the share of time with one every minute."""
    each = ("train.checkpoint_minutes=0.05", "train.log_every=1", f"train.steps={STEPS}")
    rows = run(photos, folder / "each", *each)[1:]
    held = max(row["time"]["save"] * seconds(row, 1) for row in rows)
    size = max(path.stat().st_size for path in (folder / "each/checkpoints").iterdir())

    steps = int(MINUTES * 60 * median(row["images_per_second"] for row in rows) / BATCH)
    began = time.perf_counter()
    minute = f"train.checkpoint_minutes={CHECKPOINT_MINUTES}"
    rows = run(photos, folder / "long", minute, f"train.steps={steps}")
    minutes = (time.perf_counter() - began) / 60
    whole = sum(seconds(row, 4) for row in rows)
    share = sum(row["time"]["save"] * seconds(row, 4) for row in rows) / whole
    print(
        f"saving took {share:.3%} of {minutes:.1f} minutes, with a checkpoint every "
        f"{CHECKPOINT_MINUTES} min; a checkpoint of {size / 1e6:.0f} MB held up a step for "
        f"{held:.3f} s at most"
    )
    return {
        "minutes": minutes,
        "checkpoint_minutes": CHECKPOINT_MINUTES,
        "share_of_saving": share,
        "longest_hold_up_seconds": held,
        "checkpoint_bytes": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("--only", choices=["rates", "saving"], help="leave the other part as it is")
    options = parser.parse_args()
    result: dict[str, Any] = {"settings": {"recipe": "demo", "overrides": SETTINGS}}
    if options.result and options.result.is_file():
        result = json.loads(options.result.read_text())
    images = list_images(options.folder)
    if len(images) < max(COUNTS):
        sys.exit(f"{options.folder} holds fewer than {max(COUNTS)} photos")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photos = {n: data_set(images, n, folder / f"photos-{n}") for n in COUNTS}
        for part in [options.only] if options.only else ["rates", "saving"]:
            if part == "rates":
                found = measure_rates(folder, photos)
            else:
                found = measure_saving(folder, photos[COUNTS[0]])
            result[part] = {"machine": machine(), "versions": versions(), **found}
            if options.result:
                options.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
