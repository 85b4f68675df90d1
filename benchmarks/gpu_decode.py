"""Photos to pixels and to pairs with a GPU: by the cores, by its decoder, by both, and cached.

    python -m benchmarks.gpu_decode OUT.json data.root=DIR [KEY=VALUE ...]

``cp2fast bench loader`` measures these and other libraries' loaders, which takes minutes at the
batch size of a GPU. Here only cp2fast's own systems are measured, one after the other, and each
result is written as soon as it is there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import write_result
from cp2fast import recipes
from cp2fast.bench import ceilings
from cp2fast.bench.loader_sources import sources
from cp2fast.bench.loader_task import Task, find_missing
from cp2fast.bench.timing import measure
from cp2fast.config import PretrainSettings
from cp2fast.cores import available_cores
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.sources.bad_images import BadImages

ROUNDS = 3
LEFT_OUT = ("torch",)
"""Worker processes, which a machine with a GPU does not use by default."""


def main() -> None:
    out, settings = Path(sys.argv[1]), recipes.load(PretrainSettings, None, sys.argv[2:])
    if settings.data.root is None:
        sys.exit("data.root is not set")
    gpu = torch.cuda.is_available()
    device, seconds = torch.device("cuda" if gpu else "cpu"), 0.6 if gpu else 0.05
    images = list_images(settings.data.root)
    cores = available_cores()
    task = Task(
        images=images,
        device=device,
        size=settings.model.size,
        batch_size=settings.data.batch_size,
        workers=cores,
    )
    missing = find_missing(task)
    result: dict[str, Any] = {
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
                rate = measure({name: stream}, ROUNDS, seconds)[name]
            except Exception as error:  # the others are still measured
                result["missing"][name] = f"{type(error).__name__}: {error}"
                continue
            figures = {"images_per_second": rate.median, "rounds": rate.samples_per_second}
            result["results"].append({"system": name, **figures})
            write_result(out, result)
            print(f"{name}: {rate.median:.0f} images/s", flush=True)


if __name__ == "__main__":
    main()
