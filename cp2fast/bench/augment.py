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
from cp2fast.bench.timing import Say, Stream, finish, measure, silent, stream_of_pairs
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
    """Measure every installed system on the same decoded images; see ``measure`` for the arguments.

    The images are uint8 ``[H, W, 3]``, at least ``batch_size`` of them.
    """
    problems = available_backends()
    missing = {
        name: problem
        for name, problem in {
            "kornia": problems["reference"],
            "dali-all": available_sources()["dali"],
            "cp2fast-cuda": problems["cuda"],
        }.items()
        if problem
    }
    systems = _peers(images, size, batch_size, missing)
    devices = ["cpu"] if problems["cuda"] else ["cpu", "cuda"]
    for device in devices:
        systems[f"cp2fast-{device}"] = _cp2fast(images, size, batch_size, torch.device(device))
    rates = measure(systems, rounds, seconds, say)
    limits = {_memory(d): _memory_rate(images, size, torch.device(d)) for d in devices}
    limited_by = {f"cp2fast-{device}": _memory(device) for device in devices}
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
        bottleneck=_bottleneck({name: rates[name].median for name in limited_by}, limits),
        missing=missing,
        extra={} if problems["cuda"] else {"op_on_the_gpu": time_op(images, size)},
    )


def _peers(
    images: Sequence[Tensor], size: int, batch_size: int, missing: Mapping[str, str]
) -> dict[str, Stream]:
    def peer(compose: Compose) -> Stream:
        return stream_of_pairs(map(compose, _numbers(len(images), batch_size)))

    systems = {"original": peer(original.composer(images, size))}
    places = {"": images}
    if torch.cuda.is_available():
        places["-cuda"] = [image.cuda() for image in images]
    for place, there in places.items():
        systems[f"torchvision{place}"] = peer(torchvision_v2.composer(there, size))
        if "kornia" not in missing:
            systems[f"kornia{place}"] = peer(kornia_aug.composer(there, size))
        if "dali-all" not in missing:
            composed = dali_all.composed(
                lambda number: images[number].numpy(),
                *(_numbers(len(images), batch_size), batch_size, size),
                threads=torch.get_num_threads(),
                gpu=0 if place else None,
                encoded=False,
            )
            systems[f"dali-all{place}"] = stream_of_pairs(composed, _DALI_AHEAD)
    return systems


def _numbers(count: int, batch_size: int) -> Iterator[list[int]]:
    """Batches of image numbers, epoch after epoch, endlessly."""
    return (step.tolist() for step in plan(seed=SEED, count=count, batch_size=batch_size))


def _cp2fast(images: Sequence[Tensor], size: int, batch_size: int, device: torch.device) -> Stream:
    """Includes drawing and checking parameters; packing is part of the decoding and done before."""
    one_epoch = islice(_numbers(len(images), batch_size), len(images) // batch_size)
    return augmentation((pack(images, numbers) for numbers in one_epoch), size, device)


def _memory(device: str) -> str:
    return f"memory of the {device.upper()}"


def _bottleneck(ours: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """The fastest backend, its share of the memory's limit, and what to change."""
    best = max(ours, key=ours.__getitem__)
    limit = limits[_memory(best.removeprefix("cp2fast-"))]
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
