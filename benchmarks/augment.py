"""Decoded photos to composed pairs a second, beside the peers.

    python benchmarks/augment.py FOLDER [RESULT.json]

FOLDER holds photos. The table goes to the screen, the whole report to the file.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line; before torch

from rich.console import Console
from rich.table import Table

from cp2fast.bench.augment import bench_augment
from cp2fast.data.decode import decode_image
from cp2fast.data.images import list_images

IMAGES, SIZE, BATCH_SIZE, ROUNDS, SECONDS = 256, 224, 32, 5, 4.0


def main() -> None:
    photos = list_images(Path(sys.argv[1]))
    images = [decode_image(photos.read(i), 10**9) for i in range(min(IMAGES, len(photos)))]
    report = bench_augment(images, SIZE, BATCH_SIZE, ROUNDS, SECONDS)
    table = Table("system", "composed pairs/s", "spread", "times the original")
    for row in report.results:
        table.add_row(
            row["system"],
            f"{row['images_per_second']:.1f}",
            f"{row['spread']:.0%}",
            f"{row['ratio_to_original']:.1f}",
        )
    Console().print(table)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(asdict(report), indent=1) + "\n")


if __name__ == "__main__":
    main()
