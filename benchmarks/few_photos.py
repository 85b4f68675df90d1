"""What a run costs beside its steps: few photos against many, and checkpoints.

    python benchmarks/few_photos.py FOLDER [RESULT.json] [--only rates|saving]

``rates``: runs on 40 and on 500 photos of FOLDER alternate, all settings alike; rates are from the
runs' own metrics, the first logged row left out. ``saving``: a run that saves every few seconds
gives the longest time that a checkpoint has held up a step, and one that saves every minute, ten
times as often as by default, the share of saving. Fifteen minutes on two cores, six of them for
``saving``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from cp2fast.machine import machine, versions

ROUNDS, STEPS, BATCH, COUNTS = 3, 40, 32, (40, 500)
SETTINGS = ["model.backbone=resnet18", "model.head_channels=128", "model.size=128"]
SETTINGS += ["model.queue=1024", f"data.batch_size={BATCH}", "train.log_every=4"]
MINUTES, CHECKPOINT_MINUTES = 4, 1
SUFFIXES = {".jpg", ".jpeg", ".JPEG", ".JPG"}


def some_of(folder: Path, count: int, out: Path) -> Path:
    """A folder of links to the first ``count`` photos."""
    photos = [path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]
    out.mkdir()
    for number, photo in enumerate(islice(photos, count)):
        (out / f"{number:04}.jpg").symlink_to(photo.resolve())
    if len(list(out.iterdir())) < count:
        sys.exit(f"{folder} holds fewer than {count} photos")
    return out


def run(photos: Path, out: Path, *settings: str) -> list[dict[str, Any]]:
    """The logged rows of a run."""
    words = [*SETTINGS, f"data.root={photos}", *settings, "--out", str(out)]
    command = [sys.executable, "-m", "cp2fast", "pretrain", "demo", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def seconds(row: dict[str, Any], steps: int) -> float:
    """The time that a row covers, without the start."""
    return float(steps * BATCH / row["images_per_second"])


def measure_rates(folder: Path, photos: dict[int, Path]) -> dict[str, Any]:
    """Runs on few and on many photos in turn."""
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    for number in range(ROUNDS):
        for count in COUNTS:
            rows = run(photos[count], folder / f"{number}-{count}", f"train.steps={STEPS}")
            rates[count].append(median(row["images_per_second"] for row in rows[1:]))
            print(f"{count} photos: {rates[count][-1]:.2f} samples/s", flush=True)
    few, many = (median(rates[count]) for count in COUNTS)
    print(f"{COUNTS[0]} photos make {few / many:.3f} of the rate of {COUNTS[1]}", flush=True)
    return {
        "samples_per_second": {str(count): found for count, found in rates.items()},
        "few_over_many": few / many,
    }


def measure_saving(folder: Path, photos: Path) -> dict[str, Any]:
    """The longest hold-up of many checkpoints, and the share of one every minute."""
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
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photos = {n: some_of(options.folder, n, folder / f"photos-{n}") for n in COUNTS}
        for part in [options.only] if options.only else ["rates", "saving"]:
            if part == "rates":
                found = measure_rates(folder, photos)
            else:
                found = measure_saving(folder, photos[COUNTS[0]])
            result[part] = {"machine": machine(), "versions": versions(), **found}
            if options.result:
                options.result.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
