"""Fair timing: all systems take turns in every round, so that a drift affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rate:
    """Throughput of one system over several rounds.

    Attributes:
        samples_per_second: one number per round, in the order measured.
    """

    samples_per_second: tuple[float, ...]

    @property
    def median(self) -> float:
        """The number to report."""
        return median(self.samples_per_second)

    @property
    def spread(self) -> float | None:
        """The difference between the fastest and the slowest round, as a share of the median.

        None for a single round, where it is unknown.
        """
        if len(self.samples_per_second) == 1:
            return None
        return (max(self.samples_per_second) - min(self.samples_per_second)) / self.median


Say = Callable[[str], None]
"""Takes a line about the progress of a measurement."""


def silent(line: str) -> None:
    """Discard the line."""


@dataclass(frozen=True)
class Stream:
    """A system under measurement, as an endless sequence of batches; it ends only if it fails.

    Attributes:
        samples: the number of samples of each batch; taking a number takes the batch.
        ahead: the most batches that it has in progress or ready while none is taken.
    """

    samples: Iterator[int]
    ahead: int = 0


def stream_of_pairs(pairs: Iterable[Sequence[Tensor]], ahead: int = 0) -> Stream:
    """The stream of a system that yields query, key and their masks, batch after batch."""
    return Stream(map(_count, pairs), ahead)


def _count(pairs: Sequence[Tensor]) -> int:
    """The number of samples, once they are computed."""
    finish(pairs[0].device)
    return len(pairs[0])


def measure(
    streams: Mapping[str, Stream],
    rounds: int,
    seconds: float,
    say: Say = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Rate]:
    """Run every stream ``rounds`` times, taking turns.

    Batches that a stream prepared while it was not measured are taken first and not counted. After
    its turn it gets the time to prepare as many again, so that it is idle during the turns of the
    others; it is warmed up in the same way, before the first round.

    Args:
        streams: streams by name.
        rounds: measured rounds.
        seconds: minimum time for each stream in each round.
        say: called with a line after every round.
        clock: in seconds; use ``time.process_time`` for streams without other processes, if
            something else keeps the machine busy.

    Returns:
        The rates, in the order of ``streams``, without those that ended.
    """
    rates: dict[str, list[float]] = {}
    for name, stream in streams.items():
        with suppress(StopIteration):
            _warm_up(stream)
            rates[name] = []
    say(least_time("systems and ceilings", len(rates), rounds, seconds))
    for _ in in_rounds(rounds, say):
        for name in list(rates):
            try:
                rates[name].append(_turn(streams[name], seconds, clock))
            except StopIteration:
                del rates[name]
    return {name: Rate(tuple(values)) for name, values in rates.items()}


def _warm_up(stream: Stream) -> None:
    began = time.perf_counter()
    for _ in range(stream.ahead + 1):
        next(stream.samples)
    time.sleep(stream.ahead * (time.perf_counter() - began) / (stream.ahead + 1))


def _turn(stream: Stream, seconds: float, clock: Callable[[], float]) -> float:
    """Samples per second in one turn of at least ``seconds``."""
    for _ in range(stream.ahead):
        next(stream.samples)
    batches, samples, elapsed, begin = 0, 0, 0.0, clock()
    turn = time.perf_counter()
    while batches == 0 or elapsed < seconds:
        samples += next(stream.samples)
        batches += 1
        elapsed = clock() - begin
    time.sleep(stream.ahead * (time.perf_counter() - turn) / batches)
    return samples / elapsed


def least_time(what: str, count: int, rounds: int, seconds: float) -> str:
    """A line about ``count`` of ``what``, which take turns, and their minimum time."""
    least = count * rounds * seconds
    return f"{count} {what}, {rounds} x {seconds:g} s each: at least {least:.0f} s"


def in_rounds(rounds: int, say: Say) -> Iterator[int]:
    """Count from 1 to ``rounds``, reporting each completed round."""
    began = time.perf_counter()
    for number in range(1, rounds + 1):
        yield number
        say(f"round {number} of {rounds} done, {time.perf_counter() - began:.0f} s")


def finish(device: torch.device) -> None:
    """Wait for a GPU; does nothing on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def launch_milliseconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The host's median time for a call, in milliseconds, each started when a GPU is idle."""
    times = []
    for _ in range(repeats):
        finish(device)
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1e3 * median(times)


def ratios(rate: Rate, to: Rate) -> Sequence[float]:
    """For each round, the rate relative to ``to``."""
    return [a / b for a, b in zip(rate.samples_per_second, to.samples_per_second, strict=True)]
