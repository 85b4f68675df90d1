"""Decoding and the pixel cache, compared with what decoder and op allow on the same cores.

    python -m benchmarks.cached_loading PHOTOS OUT.json [--rounds 7] [--seconds 4] [--cpu-time]

All systems take turns in one process, so that a drift of the machine does not change the ratios:

    decode   a folder into batches, against libjpeg-turbo alone from memory, and against that
             together with reading the files
    first    photos to pairs in an epoch that fills an empty cache, against decoder and op together;
             the cache's memory was in use before, and the cost of new memory is given separately
    cached   every later epoch, with backgrounds of the batch and independent ones, against the op
             alone and against the original pipeline
    then     the time to build a cached batch, the bytes copied for it, the memory after each of
             twenty epochs, and the memory that two processes are charged for one cache

``--cpu-time`` measures this process's processor time instead of the clock's, for a machine that is
busy with something else. It leaves out the original, whose work is done by other processes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.common import write_result
from benchmarks.soak import resident, shared_cache
from cp2fast.bench import ceilings
from cp2fast.bench.ceilings import compose
from cp2fast.bench.loader_sources import COMPOSED_AHEAD, IN_PROGRESS, sources
from cp2fast.bench.loader_task import SEED, Task, find_missing
from cp2fast.bench.peers import original
from cp2fast.bench.timing import Rate, Stream, measure, ratios, stream_of_pairs
from cp2fast.config import DataSettings
from cp2fast.cores import available_cores
from cp2fast.data.cache.arena import Arena
from cp2fast.data.cache.open import open_cache
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.prefetch import prefetch
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.loading import DecodeSettings
from cp2fast.data.sources.turbo_source import open_turbo

CPU = torch.device("cpu")
OURS = {"decode-turbo", "cp2fast-turbo", "cp2fast-cached", "cp2fast-cached-independent"}
DECODED = DecodeSettings(SEED, max_pixels=10**9)
EPOCHS = 20
BATCHES = 200
"""Cached batches whose making is timed."""
SIZE = 224


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("photos", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--seconds", type=float, default=4.0)
    arguments.add_argument("--batch-size", type=int, default=32)
    arguments.add_argument("--cpu-time", action="store_true")
    chosen = arguments.parse_args()
    images = list_images(chosen.photos)
    workers = available_cores()
    task = Task(images=images, size=SIZE, batch_size=chosen.batch_size, workers=workers)
    with tempfile.TemporaryDirectory() as folder:
        bad = BadImages(Path(folder), max_fraction=1)
        streams = _streams(task, bad, with_original=not chosen.cpu_time)
        clock = time.process_time if chosen.cpu_time else time.perf_counter
        rates = measure(streams, chosen.rounds, chosen.seconds, print, clock)
        report = {
            "images": len(images),
            "batch_size": chosen.batch_size,
            "rounds": chosen.rounds,
            "seconds_of": "processor time" if chosen.cpu_time else "the clock",
            "images_per_second": {name: rate.samples_per_second for name, rate in rates.items()},
            "ratios": _ratios(rates),
            "new_memory_seconds_per_gib": _new_memory(),
            "cached_batch": _cached_batch(task, bad),
            "memory_mib_by_epoch": _memory(task, bad),
            "two_processes": _two_processes(),
        }
    write_result(chosen.out, report)
    print(json.dumps({key: report[key] for key in ("ratios", "cached_batch", "two_processes")}))


def _streams(task: Task, bad: BadImages, with_original: bool) -> dict[str, Stream]:
    images, workers = task.images, task.workers
    # The op's time depends on the photos' sizes, so it gets the same photos as the others.
    epoch = list(_turbo(task, bad, None, steps_per_epoch(len(images), task.batch_size)))
    first = prefetch(_first_epochs(task, bad), COMPOSED_AHEAD)
    ours = sources(task, find_missing(task), bad)
    return {
        **({"original": _original(task)} if with_original else {}),
        **{name: stream for name, stream in ours.items() if name in OURS},
        "first": Stream(first, IN_PROGRESS + COMPOSED_AHEAD + 1),
        **ceilings.decoders(images, 512, workers),
        "read": ceilings.reading(images, workers),
        "augment": ceilings.augmentation(epoch, task.size, CPU),
    }


def _original(task: Task) -> Stream:
    numbers = (step.tolist() for step in task.plan(task.images))
    pairs = original.pairs_of_files(task.images, task.size)
    loaded = DataLoader(pairs, batch_sampler=numbers, num_workers=task.workers)
    return stream_of_pairs(loaded, ahead=2 * task.workers)


def _first_epochs(task: Task, bad: BadImages) -> Generator[int, None, None]:
    """Epochs that each fill the cache, which is emptied before."""
    per_epoch, arena = steps_per_epoch(len(task.images), task.batch_size), _arena(task)
    for _ in itertools.count():
        arena.forget_all()
        yield from compose(_turbo(task, bad, arena, per_epoch), task.size, CPU)


def _new_memory() -> float:
    """Processor seconds that the system takes to give a GiB of memory to a new cache."""
    arena = Arena.new_host(np.full(1, 1 << 30, np.int64), shared=False)
    begin = time.process_time()
    arena.pixels.fill_(1)
    first = time.process_time() - begin
    arena.pixels.fill_(2)
    return first - (time.process_time() - begin - first)


def _arena(task: Task) -> Arena:
    cache = open_cache(DataSettings(cache="host"), task.images, SEED, CPU, epochs=2)
    if cache.arena is None:
        sys.exit(cache.line)
    return cache.arena


def _turbo(task: Task, bad: BadImages, arena: Arena | None, steps: int) -> Iterator[Any]:
    return open_turbo(
        task.images,
        task.plan(task.images, steps),
        DECODED,
        bad,
        threads=task.workers,
        arena=arena,
    )


def _ratios(rates: dict[str, Rate]) -> dict[str, float]:
    """Medians over the rounds."""

    def of(ours: str, theirs: str) -> float:
        return median(ratios(rates[ours], rates[theirs]))

    decoders = [name for name in ("simplejpeg", "libturbojpeg") if name in rates]
    per_round = (rates[name].samples_per_second for name in decoders)
    fastest = Rate(tuple(max(decode) for decode in zip(*per_round, strict=True)))
    both = _together(fastest, rates["augment"])
    with_reading = _together(fastest, rates["read"])
    found = {
        **{f"decode / {name}": of("decode-turbo", name) for name in decoders},
        "decode / decoder and reading": median(ratios(rates["decode-turbo"], with_reading)),
        "first epoch, uncached / decode and op": median(ratios(rates["cp2fast-turbo"], both)),
        "first epoch, filling / decode and op": median(ratios(rates["first"], both)),
        "cached / op": of("cp2fast-cached", "augment"),
        "cached, independent / op": of("cp2fast-cached-independent", "augment"),
    }
    if "original" in rates:
        found["cached / original"] = of("cp2fast-cached", "original")
        found["first epoch, uncached / original"] = of("cp2fast-turbo", "original")
    return found


def _together(one: Rate, other: Rate) -> Rate:
    """The rate of two stages that share the cores."""
    rates = zip(one.samples_per_second, other.samples_per_second, strict=True)
    return Rate(tuple(a * b / (a + b) for a, b in rates))


def _cached_batch(task: Task, bad: BadImages) -> dict[str, float]:
    """Microseconds to build a batch of 256, or of what there is, and bytes copied for it."""
    arena = _arena(task)
    count = len(task.images)

    def opened(numbers: Iterator[Any]) -> Iterator[Any]:
        return open_turbo(task.images, numbers, DECODED, bad, threads=task.workers, arena=arena)

    for _ in opened(iter(np.array_split(np.arange(count), -(-count // 32)))):
        pass
    size = min(256, count)
    batches = opened(plan(seed=SEED, count=count, batch_size=size, stop=BATCHES))
    times, copied = [], 0
    for _ in range(BATCHES - 8):
        begin = time.perf_counter()
        batch = next(batches)
        times.append(1e6 * (time.perf_counter() - begin))
        if batch.pixels.data_ptr() != arena.pixels.data_ptr():
            copied += len(batch.pixels)
    return {"images": size, "microseconds": median(times), "bytes_copied": copied}


def _memory(task: Task, bad: BadImages) -> list[float]:
    """MiB of this process after each epoch, of which the first fills the cache."""
    per_epoch = steps_per_epoch(len(task.images), task.batch_size)
    found = []
    for step, _ in enumerate(_turbo(task, bad, _arena(task), EPOCHS * per_epoch), 1):
        if step % per_epoch == 0:
            found.append(resident(os.getpid()))
    return found


def _two_processes(mebibytes: int = 256) -> dict[str, float]:
    """MiB of one full cache that each of two processes maps, and that both are charged with."""
    arena = Arena.new_host(np.full(1, mebibytes << 20, np.int64), shared=True)
    arena.pixels.fill_(1)
    script = (
        "import sys; from cp2fast.data.cache.arena import Arena;"
        "arena = Arena.attach((int(sys.argv[1]), int(sys.argv[2])), 1);"
        "arena.pixels.sum(); print('there', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, *map(str, arena.address)]
    other = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if other.stdout is None or other.stdin is None:
        sys.exit("no pipe to the other process")
    other.stdout.readline()
    shares = [shared_cache(process) for process in ("self", other.pid)]
    other.stdin.close()
    other.wait()
    return {"mapped_by_each": shares[1][0], "charged_together": shares[0][1] + shares[1][1]}


if __name__ == "__main__":
    main()
