"""What decoding costs the thread that launches kernels: in its own process, and in others.

python benchmarks/decode_contention.py PHOTOS [OUT.json] [--rounds 5] [--seconds 1] [--threads N]

A thread launches small kernels one after the other (on a GPU where there is one) and counts them,
while photos are decoded as fast as they can be: by nobody, by threads of its process, by other
processes. They take turns, so that the ratios stand on a machine that drifts. ``launch_us`` is the
median of a launch, ``slowest_us`` the 999th of a thousand. The thread's time is divided, as
Linux tells it: it computes, waits for a core, or sleeps, which here is waiting for Python's lock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np
import torch

from cp2fast.cores import available_cores
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.loading import DecodeSettings
from cp2fast.data.sources.turbo_process import open_turbo_processes
from cp2fast.data.sources.turbo_source import open_turbo
from cp2fast.machine import machine, versions

BATCH = 64
OPENED = {"threads": open_turbo, "processes": open_turbo_processes}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("photos", type=Path)
    arguments.add_argument("out", type=Path, nargs="?")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=1.0)
    arguments.add_argument("--threads", type=int, default=available_cores())
    chosen = arguments.parse_args()
    images = list_images(chosen.photos)
    with tempfile.TemporaryDirectory() as folder:
        bad = BadImages(Path(folder), max_fraction=1)
        rounds = _rounds(images, bad, chosen.threads, chosen.rounds, chosen.seconds)
    found = {
        name: {key: median(one[name][key] for one in rounds) for key in rounds[0][name]}
        for name in rounds[0]
    }
    alone = found["nobody"]["launches_per_second"]
    for of_name in found.values():
        of_name["share_of_alone"] = of_name["launches_per_second"] / alone
    report = {
        "machine": machine(),
        "versions": versions(),
        "threads": chosen.threads,
        "rounds": chosen.rounds,
        "decoding_by": found,
    }
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))


def _rounds(
    images: ImageSet, bad: BadImages, threads: int, rounds: int, seconds: float
) -> list[dict[str, dict[str, float]]]:
    decoders = {name: _Decoder(images, bad, name, threads) for name in OPENED}
    try:
        for decoder in decoders.values():
            decoder.wait_for_some()
        found = []
        for _ in range(rounds):
            one = {"nobody": _launch(seconds)}
            for name, decoder in decoders.items():
                with decoder:
                    before = decoder.images
                    one[name] = _launch(seconds)
                    one[name]["images_per_second"] = (decoder.images - before) / seconds
            found.append(one)
        return found
    finally:
        for decoder in decoders.values():
            decoder.close()


class _Decoder:
    """A thread that takes decoded batches while this is entered, and counts their images."""

    def __init__(self, images: ImageSet, bad: BadImages, name: str, threads: int) -> None:
        self.images = 0
        self._goes, self._ends = threading.Event(), False
        numbers = (
            step
            for epoch in itertools.count()
            for step in plan(
                seed=epoch, count=len(images), batch_size=min(BATCH, len(images)), start=0, stop=64
            )
        )
        self._batches = OPENED[name](
            images, numbers, DecodeSettings(0, max_pixels=10**9), bad, threads=threads
        )
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def wait_for_some(self) -> None:
        with self:
            while not self.images:
                time.sleep(0.01)

    def __enter__(self) -> None:
        self._goes.set()

    def __exit__(self, *_: object) -> None:
        """What is decoded ahead comes to an end in the pause."""
        self._goes.clear()
        time.sleep(0.3)

    def close(self) -> None:
        self._ends = True
        self._goes.set()
        self._thread.join()

    def _take(self) -> None:
        with closing(self._batches):
            for batch in self._batches:
                self.images += len(batch)
                self._goes.wait()
                if self._ends:
                    return


def _launch(seconds: float) -> dict[str, float]:
    """Small kernels for so long; the device is never waited for."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    value = torch.zeros(16, device=device)
    times = np.zeros(int(seconds * 2_000_000), np.int64)
    begun = _scheduled()
    now, count, end = time.perf_counter_ns(), 0, time.perf_counter_ns() + int(seconds * 1e9)
    while now < end:
        value.add_(1)
        before, now = now, time.perf_counter_ns()
        times[count] = now - before
        count += 1
    computed, queued = (after - before for after, before in zip(_scheduled(), begun, strict=True))
    taken = times[:count] / 1000
    return {
        "launches_per_second": count / seconds,
        "launch_us": float(np.median(taken)),
        "slowest_us": float(np.quantile(taken, 0.999)),
        "computes": computed / 1e9 / seconds,
        "waits_for_a_core": queued / 1e9 / seconds,
        "waits_for_the_lock": 1 - (computed + queued) / 1e9 / seconds,
    }


def _scheduled() -> tuple[int, int]:
    """Nanoseconds that this thread has had a core, and has waited for one."""
    computed, queued, _ = Path("/proc/thread-self/schedstat").read_text(encoding="utf-8").split()
    return int(computed), int(queued)


if __name__ == "__main__":
    main()
