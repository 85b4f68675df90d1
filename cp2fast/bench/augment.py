"""From decoded photos to composed pairs: cp2fast's op compared with other implementations."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from cp2fast.bench.augment_gpu import bytes_a_sample, pack, time_op
from cp2fast.bench.ceilings import augmentation, dtype_on
from cp2fast.bench.loader_task import SEED
from cp2fast.bench.peers import Compose, dali_all, kornia_aug, original, torchvision_v2
from cp2fast.bench.report import Report, results_of
from cp2fast.bench.timing import Rate, Say, Stream, finish, measure, silent, stream_of_pairs
from cp2fast.copypaste.backends import available_backends
from cp2fast.data.order import plan
from cp2fast.data.sources.choice import available_sources

_DALI_AHEAD = 3
"""Batches that DALI prepares ahead."""


def bench_augment(
    images: Sequence[Tensor],
    *,
    size: int,
    batch_size: int,
    rounds: int,
    seconds: float,
    say: Say = silent,
) -> Report:
    """Measure every installed system on the same decoded images, interleaved.

    Args:
        images: uint8 ``[H, W, 3]``, at least ``batch_size`` of them.
        size: side of the composed images.
        batch_size: samples per unit of work.
        rounds: measured rounds.
        seconds: minimum time for each system in each round.
        say: called with a line after every round.
    """
    missing: dict[str, str] = {}
    systems = _peers(images, size, batch_size, missing)
    systems["cp2fast-cpu"] = _cp2fast(images, size, batch_size, torch.device("cpu"))
    problem = available_backends()["cuda"]
    if problem:
        missing["cp2fast-cuda"] = problem
    else:
        systems["cp2fast-cuda"] = _cp2fast(images, size, batch_size, torch.device("cuda"))
    rates = measure(systems, rounds, seconds, say)
    limits = {
        f"memory of the {device.upper()}": _memory_rate(images, size, torch.device(device))
        for device in (("cpu",) if problem else ("cpu", "cuda"))
    }
    limited_by = {
        name: f"memory of the {name.removeprefix('cp2fast-').upper()}"
        for name in systems
        if name.startswith("cp2fast-")
    }
    return Report(
        "augment",
        {
            "images": len(images),
            "size": size,
            "batch_size": batch_size,
            "rounds": rounds,
            "seconds": seconds,
            "seed": SEED,
            "threads": torch.get_num_threads(),
        },
        results_of(rates, limits, limited_by),
        ceilings=limits,
        bottleneck=_bottleneck(rates, limits),
        missing=missing,
        extra={} if problem else {"op_on_the_gpu": time_op(images, size)},
    )


def _peers(
    images: Sequence[Tensor], size: int, batch_size: int, missing: dict[str, str]
) -> dict[str, Stream]:
    def peer(compose: Compose) -> Stream:
        return stream_of_pairs(map(compose, _numbers(len(images), batch_size)))

    systems = {
        "original": peer(original.composer(images, size)),
        "torchvision": peer(torchvision_v2.composer(images, size)),
    }
    gpu = torch.cuda.is_available()
    there = [image.cuda() for image in images] if gpu else []
    if gpu:
        systems["torchvision-cuda"] = peer(torchvision_v2.composer(there, size))
    if problem := available_backends()["reference"]:
        missing["kornia"] = problem
    else:
        systems["kornia"] = peer(kornia_aug.composer(images, size))
        if gpu:
            systems["kornia-cuda"] = peer(kornia_aug.composer(there, size))
    if problem := available_sources()["dali"]:
        missing["dali-all"] = problem
    else:
        devices = {"dali-all": None, "dali-all-cuda": 0} if gpu else {"dali-all": None}
        for name, device in devices.items():
            numbers, threads = _numbers(len(images), batch_size), torch.get_num_threads()
            composed = dali_all.composed_of_decoded(
                images, numbers, batch_size, size, threads, device
            )
            systems[name] = stream_of_pairs(composed, _DALI_AHEAD)
    return systems


def _numbers(count: int, batch_size: int) -> Iterator[list[int]]:
    """Batches of image numbers, epoch after epoch, endlessly."""
    return (step.tolist() for step in plan(seed=SEED, count=count, batch_size=batch_size))


def _cp2fast(images: Sequence[Tensor], size: int, batch_size: int, device: torch.device) -> Stream:
    """Includes drawing and checking parameters; packing is part of the decoding and done before."""
    one_epoch = islice(_numbers(len(images), batch_size), len(images) // batch_size)
    return augmentation((pack(images, numbers) for numbers in one_epoch), size, device)


def _bottleneck(rates: Mapping[str, Rate], limits: Mapping[str, float]) -> str:
    """The fastest backend, its share of the memory's limit, and what to change."""
    ours = {name: rate.median for name, rate in rates.items() if name.startswith("cp2fast-")}
    best = max(ours, key=ours.__getitem__)
    limit = limits[f"memory of the {best.removeprefix('cp2fast-').upper()}"]
    change = (
        "compose on a GPU with train.device=cuda, or take smaller images with model.size"
        if best == "cp2fast-cpu"
        else "a GPU composes faster than it trains: nothing to change"
    )
    return (
        f"arithmetic limits: {best} composes {ours[best]:.0f} pairs/s, {ours[best] / limit:.0%} of "
        f"what memory could move; {change}"
    )


def _memory_rate(images: Sequence[Tensor], size: int, device: torch.device) -> float:
    """Samples per second at memory speed: each image is read once, each output written once."""
    sample = bytes_a_sample(images, size, dtype_on(device))
    source = torch.zeros(1 << 27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = math.inf
    for _ in range(10):
        begin = time.perf_counter()
        target.copy_(source)
        finish(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * len(source) / best / sample
