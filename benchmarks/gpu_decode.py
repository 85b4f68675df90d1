"""Photos to pixels and to pairs with a GPU: by cores, by its decoder by share, by both, cached.

python benchmarks/gpu_decode.py OUT.json data.root=DIR [KEY=VALUE ...]

`cp2fast bench loader` measures these beside other libraries' loaders, which takes minutes at the
batch of a GPU. Here each of cp2fast's own systems is measured by itself, one after the other, and
kept as it ends.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from cp2fast import recipes
from cp2fast.bench import ceilings
from cp2fast.bench.loader_sources import sources
from cp2fast.bench.loader_task import Task, find_missing
from cp2fast.bench.timing import measure_streams
from cp2fast.config import PretrainSettings
from cp2fast.cores import available_cores
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.machine import machine, versions

ROUNDS = 3
LEFT_OUT = ("torch",)
"""Worker processes, which a machine with a GPU does not use by itself."""


def main() -> None:
    out, settings = Path(sys.argv[1]), recipes.load(PretrainSettings, None, sys.argv[2:])
    if settings.data.root is None:
        sys.exit("data.root is not set")
    gpu = torch.cuda.is_available()
    device, seconds = torch.device("cuda" if gpu else "cpu"), 0.6 if gpu else 0.05
    images = list_images(settings.data.root)
    cores = available_cores()
    task = Task(images, None, device, settings.model.size, settings.data.batch_size, cores)
    missing = find_missing(task)
    result: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(),
        "settings": {"batch_size": task.batch_size, "size": task.size, "workers": cores},
        "missing": missing,
        "results": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        bad = BadImages(Path(folder), max_fraction=1)
        limits = {
            f"ceiling decode {name}": stream
            for name, stream in ceilings.decoders(images, 512, cores).items()
        }
        for name, stream in (limits | sources(task, missing, bad)).items():
            if name.endswith(LEFT_OUT):
                continue
            try:
                rate = measure_streams({name: stream}, ROUNDS, seconds)[name]
            except Exception as error:  # the others are measured all the same
                result["missing"][name] = f"{type(error).__name__}: {error}"
                continue
            figures = {"images_per_second": rate.median, "rounds": rate.samples_per_second}
            result["results"].append({"system": name, **figures})
            out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
            print(f"{name}: {rate.median:.0f} images/s", flush=True)


if __name__ == "__main__":
    main()
