"""From decoded photos to composed pairs: cp2fast's op compared with other implementations."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from cp2fast import philox
from cp2fast.bench.augment_gpu import bytes_a_sample, pack, time_op
from cp2fast.bench.peers import dali_all, kornia_aug, original, torchvision_v2
from cp2fast.bench.report import Report, build_report
from cp2fast.bench.timing import Rate, Say, Stream, finish, measure_streams, silent
from cp2fast.copypaste.backends import available_backends
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import sample_parameters
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
    rates = measure_streams(systems, rounds, seconds, say)
    limits = {
        f"memory of the {device.upper()}": _memory_rate(images, size, torch.device(device))
        for device in (("cpu",) if problem else ("cpu", "cuda"))
    }
    return build_report(
        "augment",
        {
            "images": len(images),
            "size": size,
            "batch_size": batch_size,
            "rounds": rounds,
            "seconds": seconds,
            "seed": 0,
            "threads": torch.get_num_threads(),
        },
        rates,
        ceilings=limits,
        limited_by={
            name: f"memory of the {name.removeprefix('cp2fast-').upper()}"
            for name in systems
            if name.startswith("cp2fast-")
        },
        bottleneck=_bottleneck(rates, limits),
        missing=missing,
        extra={} if problem else {"op_on_the_gpu": time_op(images, size)},
    )


def _peers(
    images: Sequence[Tensor], size: int, batch_size: int, missing: dict[str, str]
) -> dict[str, Stream]:
    count = len(images)
    systems = {
        "original": _peer(original.composer(images, size), count, batch_size),
        "torchvision": _peer(torchvision_v2.composer(images, size), count, batch_size),
    }
    gpu = torch.cuda.is_available()
    there = [image.cuda() for image in images] if gpu else []
    if gpu:
        composer = torchvision_v2.composer(there, size)
        systems["torchvision-cuda"] = _peer(composer, count, batch_size)
    if problem := available_backends()["reference"]:
        missing["kornia"] = problem
    else:
        systems["kornia"] = _peer(kornia_aug.composer(images, size), count, batch_size)
        if gpu:
            systems["kornia-cuda"] = _peer(kornia_aug.composer(there, size), count, batch_size)
    if problem := available_sources()["dali"]:
        missing["dali-all"] = problem
    else:
        devices = {"dali-all": None, "dali-all-cuda": 0} if gpu else {"dali-all": None}
        for name, device in devices.items():
            composed = dali_all.composed_of_decoded(
                images,
                _numbers(count, batch_size),
                batch_size,
                size,
                torch.get_num_threads(),
                device,
            )
            systems[name] = Stream((len(query) for query, *_ in composed), ahead=_DALI_AHEAD)
    return systems


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


def _numbers(count: int, batch_size: int) -> Iterator[list[int]]:
    """Batches of image numbers, epoch after epoch, endlessly."""
    epoch = 0
    while True:
        order = philox.permutation(0, philox.Stream.ORDER, epoch, count)
        for begin in range(0, count - batch_size + 1, batch_size):
            yield order[begin : begin + batch_size].tolist()
        epoch += 1


def _peer(
    compose: Callable[[Sequence[int]], tuple[Tensor, Tensor, Tensor, Tensor]],
    count: int,
    batch_size: int,
) -> Stream:
    def samples() -> Iterator[int]:
        for numbers in _numbers(count, batch_size):
            query, *_ = compose(numbers)
            finish(query.device)
            yield len(query)

    return Stream(samples(), ahead=0)


def _cp2fast(images: Sequence[Tensor], size: int, batch_size: int, device: torch.device) -> Stream:
    """Includes drawing and checking parameters; packing is part of the decoding and done before."""
    order = _numbers(len(images), batch_size)
    per_epoch = len(images) // batch_size
    packed = [pack(images, next(order)).to(device) for _ in range(per_epoch)]
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16

    def samples() -> Iterator[int]:
        for step, batch in enumerate(itertools.cycle(packed)):
            parameters = sample_parameters(0, step // per_epoch, batch, size)
            pairs = copy_paste(batch, parameters, size, dtype)
            finish(device)
            yield len(pairs)

    return Stream(samples(), ahead=0)


def _memory_rate(images: Sequence[Tensor], size: int, device: torch.device) -> float:
    """Samples per second at memory speed: each image is read once, each output written once."""
    sample = bytes_a_sample(images, size, torch.float32 if device.type == "cpu" else torch.bfloat16)
    source = torch.zeros(1 << 27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = math.inf
    for _ in range(10):
        begin = time.perf_counter()
        target.copy_(source)
        finish(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * len(source) / best / sample
