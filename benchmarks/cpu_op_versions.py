"""Is the CPU op of this checkout faster than that of an earlier commit?

    python -m benchmarks.cpu_op_versions FOLDER [RESULT.json] [--revision 06139a1] [--threads N]

The earlier package is taken from git under another name, so that both run in one process, compose
the same pairs from the photos of FOLDER on the same cores, and take turns in every round. Figures
are medians of the rounds; ``cpu`` is the processor time of the process, which other work on the
machine disturbs less.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line; before torch

import torch
from torch import Tensor

from benchmarks.common import write_result
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.data.decoding.decode import decode_image
from cp2fast.data.image_sets.listing import list_images

SIZE, BATCH, SEED = 224, 64, 0
ROOT = Path(__file__).parents[1]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Composed = tuple[Tensor, Tensor, Tensor, Tensor]


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    photos = list_images(arguments.folder)
    images = [decode_image(photos.read(i), 10**9) for i in range(min(BATCH, len(photos)))]
    with earlier(arguments.revision) as package:
        results = [
            compare(images, package, name, dtype, arguments.rounds)
            for name, dtype in DTYPES.items()
        ]
    for row in results:
        print(
            f"{row['dtype']}: {row['before']['pairs_per_second']:.0f} pairs/s before, "
            f"{row['now']['pairs_per_second']:.0f} now, {row['ratio']:.2f} times; by processor "
            f"time {row['ratio_cpu']:.2f} times; they differ by {row['largest_difference']:.4f} "
            "levels at most"
        )
    if arguments.result:
        settings = {
            "revision": arguments.revision,
            "photos": len(images),
            "size": SIZE,
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "seed": SEED,
        }
        write_result(arguments.result, {"settings": settings, "results": results})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The CPU op, now and at an earlier commit.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("--revision", default="06139a1")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=21)
    return parser.parse_args()


@contextmanager
def earlier(revision: str) -> Iterator[str]:
    """Yields the name under which the package of a commit can be imported."""
    name = f"cp2fast_{revision}"
    archive = subprocess.run(
        ["git", "archive", revision, "cp2fast"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        package = Path(folder) / "cp2fast"
        for source in package.rglob("*.py"):
            source.write_text(source.read_text(encoding="utf-8").replace("cp2fast", name))
        package.rename(package.with_name(name))
        sys.path.insert(0, folder)
        try:
            yield name
        finally:
            sys.path.remove(folder)


def composing(package: str, images: list[Tensor], dtype: torch.dtype) -> Callable[[], Composed]:
    """A call of a package's CPU op on the same pairs; earlier commits named its parts otherwise."""

    def part(name: str, formerly: str = "") -> Any:
        try:
            return importlib.import_module(f"{package}.{name}")
        except ModuleNotFoundError:
            return importlib.import_module(f"{package}.{formerly}") if formerly else None

    batch = part("batch").RaggedBatch.pack(images, range(len(images)))
    drawing = part("copypaste.sampling", "copypaste.draw")
    if hasattr(drawing, "sample_parameters"):
        drawn = drawing.sample_parameters(SEED, 0, batch, SIZE)
    else:
        drawn = drawing.draw(SEED, 0, batch, SIZE, "batch")
    op = part("copypaste.cpu.launch", "copypaste.cpu").copy_paste_cpu
    if (views := part("copypaste.views")) is None:
        places = batch.pixels, batch.offset, batch.height, batch.width
        return functools.partial(op, *places, *vars(drawn).values(), SIZE, dtype)
    table = views.pack(batch, drawn)
    arguments = batch.pixels, table, SIZE, dtype, IMAGENET_MEAN, IMAGENET_STD
    if hasattr(interface := part("copypaste.interface", "copypaste.views"), "Request"):
        return functools.partial(op, interface.Request(*arguments))
    return functools.partial(op, *arguments)


def compare(
    images: list[Tensor], package: str, name: str, dtype: torch.dtype, rounds: int
) -> dict[str, Any]:
    """Time both in turn, on the same pairs."""
    systems = {
        "before": composing(package, images, dtype),
        "now": composing("cp2fast", images, dtype),
    }
    pairs = [system() for system in systems.values()]  # compiles
    apart = max(float((pairs[0][i].float() - pairs[1][i].float()).abs().max()) for i in range(2))
    del pairs
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    processor: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for system, compose in systems.items():
            begin, busy = time.perf_counter(), time.process_time()
            compose()
            seconds[system].append(time.perf_counter() - begin)
            processor[system].append(time.process_time() - busy)
    row: dict[str, Any] = {"dtype": name}
    for system in systems:
        row[system] = {
            "pairs_per_second": len(images) / median(seconds[system]),
            "spread": (max(seconds[system]) - min(seconds[system])) / median(seconds[system]),
            "cpu_microseconds_a_pair": 1e6 * median(processor[system]) / len(images),
        }
    row["ratio"] = row["now"]["pairs_per_second"] / row["before"]["pairs_per_second"]
    row["ratio_cpu"] = median(processor["before"]) / median(processor["now"])
    row["largest_difference"] = apart * 0.225 * 255
    return row


if __name__ == "__main__":
    main()
