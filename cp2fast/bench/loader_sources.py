"""cp2fast's own sources, from files to pairs, as measured by the loader's benchmark.

``decode-NAME`` is a source alone, ``cp2fast-NAME`` includes the op; ``cached`` is every epoch after
the first with ``data.cache``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.bench.ceilings import compose
from cp2fast.bench.loader_task import HARDWARE_SHARES, SEED, Task
from cp2fast.bench.timing import Stream, finish
from cp2fast.data.cache.open import open_cache
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.prefetch import prefetch
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.dali_source import open_dali
from cp2fast.data.sources.open import open_source
from cp2fast.data.sources.turbo_process import batches_in_the_making
from cp2fast.errors import UserError

COMPOSED_AHEAD = 2
IN_PROGRESS = 6
"""Most batches that a source has in progress or ready; a DataLoader has two per worker."""
_CACHED = 1024
"""Number of images that is enough to measure a cache."""
_CPU = torch.device("cpu")


def sources(task: Task, missing: dict[str, str], bad: BadImages) -> dict[str, Stream]:
    """The streams of all systems that are not ``missing``, by name."""
    systems: dict[str, tuple[dict[str, str], ImageSet]] = {
        "torch": ({"source": "torch"}, task.images),
        "turbo": ({"source": "turbo"}, task.images),
        "dali": ({"source": "dali", "decode": "cpu"}, task.images),
        "dali-gpu": ({"source": "dali", "decode": "gpu"}, task.images),
        "both": ({"decode": "both"}, task.images),
    }
    if task.beton is not None:
        systems["ffcv"] = ({"source": "turbo"}, task.beton)
    streams = {}
    for name, (asked, images) in systems.items():
        names = {f"cp2fast-{name}", f"decode-{name}"} - missing.keys()
        if not names:
            continue
        own = {"source": "auto", "decode": "auto", "workers": task.workers}
        settings = task.data.model_copy(update=own | asked)
        choice = choose_source(settings, images, task.device)
        ahead = 2 * task.workers if name == "torch" else IN_PROGRESS
        if choice.name == "turbo" and choice.apart:
            ahead = batches_in_the_making(task.workers)
        if f"cp2fast-{name}" in names:
            numbers, where = task.plan(images), task.device
            batches = open_source(choice, settings, images, numbers, SEED, where, bad)
            samples = prefetch(compose(batches, task.size, where), COMPOSED_AHEAD)
            streams[f"cp2fast-{name}"] = Stream(samples, ahead + COMPOSED_AHEAD + 1)
        if f"decode-{name}" in names:
            where = _CPU if choice.decode == "cpu" else task.device
            numbers = task.plan(images)
            batches = open_source(choice, settings, images, numbers, SEED, where, bad)
            streams[f"decode-{name}"] = Stream(_counted(batches, where), ahead)
    for share in HARDWARE_SHARES:
        name = f"decode-dali-gpu@{share:g}"
        if name not in missing:
            decoded = open_dali(
                *(task.images, task.plan(task.images), task.decoding, bad),
                threads=task.workers,
                gpu=task.device,
                hardware_share=share,
            )
            streams[name] = Stream(_counted(decoded, task.device), IN_PROGRESS)
    for name in ("cached", "cached-independent"):
        if f"cp2fast-{name}" not in missing:
            independent = name.endswith("independent")
            samples = prefetch(_cached(task, bad, independent), COMPOSED_AHEAD)
            streams[f"cp2fast-{name}"] = Stream(samples, IN_PROGRESS + COMPOSED_AHEAD + 1)
    return streams


def _counted(batches: Iterator[RaggedBatch], device: torch.device) -> Generator[int, None, None]:
    for batch in batches:
        finish(device)
        yield len(batch)


def _cached(task: Task, bad: BadImages, independent: bool) -> Generator[int, None, None]:
    """Pairs of cached images; the time before the first one includes filling the cache."""
    images = task.images.first(max(_CACHED, task.batch_size))
    where = "gpu" if task.device.type == "cuda" else "host"
    settings = task.data.model_copy(
        update={"source": "turbo", "workers": task.workers, "cache": where}
    )
    arena, line = open_cache(settings, images, SEED, task.device, epochs=2)
    if arena is None:
        raise UserError(f"{line or 'no cache'}: free some memory, or name fewer images")
    choice = choose_source(settings, images, task.device)

    def opened(numbers: Iterator[NDArray[np.int64]]) -> Iterator[RaggedBatch]:
        return open_source(choice, settings, images, numbers, SEED, task.device, bad, arena)

    for _ in opened(iter(np.array_split(np.arange(len(images)), -(-len(images) // 32)))):
        finish(task.device)
    batches = opened(task.plan(images, independent=independent))
    yield from compose(batches, task.size, task.device, "independent" if independent else "batch")
