"""Decoded photos to composed pairs: cp2fast's op beside other ways to do the same steps."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.bench.machine import machine, versions
from cp2fast.bench.peers import kornia_aug, original, torchvision_v2
from cp2fast.bench.timing import Rate, measure, ratios
from cp2fast.copypaste.draw import draw
from cp2fast.copypaste.op import copy_paste
from cp2fast.philox import Stream, permutation


@dataclass(frozen=True)
class Report:
    """What was measured, on what, and how.

    Attributes:
        machine: of ``machine()``.
        versions: of ``versions()``.
        settings: images, size, batch size, rounds, seconds.
        results: one row a system: ``system``, ``images_per_second`` (median), ``spread`` (slowest
            to fastest round, as a share of the median), ``ratio_to_original`` (median of the
            rounds).
    """

    machine: dict[str, str | int]
    versions: dict[str, str]
    settings: dict[str, float]
    results: list[dict[str, Any]]


def bench_augment(
    images: Sequence[Tensor], size: int, batch_size: int, rounds: int, seconds: float
) -> Report:
    """Measure every system that is installed on the same decoded images, interleaved.

    Args:
        images: uint8 ``[H, W, 3]``, at least ``batch_size`` of them.
        size: side of the composed images.
        batch_size: samples a unit of work.
        rounds: rounds counted.
        seconds: at least this long for each system in each round.
    """
    peers = {"original": original, "torchvision": torchvision_v2}
    if importlib.util.find_spec("kornia"):
        peers["kornia"] = kornia_aug
    systems: dict[str, Callable[[], int]] = {
        name: _peer_work(peer.composer(images, size), len(images), batch_size)
        for name, peer in peers.items()
    }
    systems["cp2fast-cpu"] = _cp2fast_work(images, size, batch_size)
    rates = measure(systems, rounds, seconds)
    return Report(
        machine=machine(),
        versions=versions(),
        settings={
            "images": len(images),
            "size": size,
            "batch_size": batch_size,
            "rounds": rounds,
            "seconds": seconds,
            "threads": torch.get_num_threads(),
        },
        results=[_row(name, rate, rates["original"]) for name, rate in rates.items()],
    )


def _row(name: str, rate: Rate, original_rate: Rate) -> dict[str, Any]:
    return {
        "system": name,
        "images_per_second": rate.median,
        "spread": rate.spread,
        "ratio_to_original": median(ratios(rate, original_rate)),
    }


def _numbers(count: int, batch_size: int) -> Iterator[list[int]]:
    """Batches of image numbers, epoch after epoch, without end."""
    epoch = 0
    while True:
        order = permutation(0, Stream.ORDER, epoch, count)
        for begin in range(0, count - batch_size + 1, batch_size):
            yield order[begin : begin + batch_size].tolist()
        epoch += 1


def _peer_work(
    compose: Callable[[Sequence[int]], tuple[Tensor, Tensor, Tensor, Tensor]],
    count: int,
    batch_size: int,
) -> Callable[[], int]:
    batches = _numbers(count, batch_size)

    def work() -> int:
        query, *_ = compose(next(batches))
        return len(query)

    return work


def _cp2fast_work(images: Sequence[Tensor], size: int, batch_size: int) -> Callable[[], int]:
    """Drawing and checking included; packing is the decoder's work and done before."""
    order = _numbers(len(images), batch_size)
    per_epoch = len(images) // batch_size
    packed = [
        RaggedBatch.pack([images[i] for i in numbers], np.array(numbers).tolist())
        for numbers in (next(order) for _ in range(per_epoch))
    ]
    step = 0

    def work() -> int:
        nonlocal step
        batch = packed[step % per_epoch]
        parameters = draw(0, step // per_epoch, batch, size, "batch")
        step += 1
        return len(copy_paste(batch, parameters, size))

    return work
