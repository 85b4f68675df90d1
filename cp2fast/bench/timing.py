"""Fair timing: every system in turn, round after round, so that a drifting machine hits all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Rate:
    """Throughput of one system over several rounds.

    Attributes:
        samples_per_second: one number a round, in the order measured.
    """

    samples_per_second: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return median(self.samples_per_second)

    @property
    def spread(self) -> float | None:
        """Distance of the fastest from the slowest round, as a share of the median.

        None of a single round, which says nothing about it.
        """
        if len(self.samples_per_second) == 1:
            return None
        return (max(self.samples_per_second) - min(self.samples_per_second)) / self.median


Say = Callable[[str], None]
"""Takes a line that tells how far a measurement is."""


def silent(line: str) -> None:
    """Tell nobody."""


def measure(
    systems: Mapping[str, Callable[[], int]], rounds: int, seconds: float, say: Say = silent
) -> dict[str, Rate]:
    """Run every system ``rounds`` times in turn.

    Args:
        systems: by name, a function that does one unit of work and returns the samples in it.
        rounds: measured rounds, after one unit of each system to warm up.
        seconds: a system repeats its unit for at least this long in each round.
        say: called with a line after every round.

    Returns:
        The rates, in the order of ``systems``.
    """
    streams = {name: Stream(iter(work, None), ahead=0) for name, work in systems.items()}
    return measure_streams(streams, rounds, seconds, say)


@dataclass(frozen=True)
class Stream:
    """A loader that goes on by itself between two of its batches.

    Attributes:
        samples: the number of samples of each batch, without end; the batch is asked for by
            asking for its number.
        ahead: batches that it has in the making or ready, at most, while none is asked for.
    """

    samples: Iterator[int]
    ahead: int


def measure_streams(
    streams: Mapping[str, Stream],
    rounds: int,
    seconds: float,
    say: Say = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Rate]:
    """Let every stream run ``rounds`` times in turn, and never two of them at once.

    What a stream made ahead while it was not measured is taken first, uncounted. After its turn
    it is given the time to make as much again, so that it is quiet in the turns of the others.

    Args:
        streams: by name.
        rounds: measured rounds, after one batch of each stream to warm up.
        seconds: a stream is measured for at least this long in each round.
        say: called with a line after every round.
        clock: in seconds; ``time.process_time`` for streams that have no other process, where
            something else keeps the machine busy.

    Returns:
        The rates, in the order of ``streams``.
    """
    for stream in streams.values():
        next(stream.samples)
    rates: dict[str, list[float]] = {name: [] for name in streams}
    count, least = len(streams), rounds * seconds * len(streams)
    say(f"{count} systems and ceilings, {rounds} x {seconds:g} s each: at least {least:.0f} s")
    for _ in in_rounds(rounds, say):
        for name, stream in streams.items():
            for _ in range(stream.ahead):
                next(stream.samples)
            batches, samples, elapsed, begin = 0, 0, 0.0, clock()
            turn = time.perf_counter()
            while batches == 0 or elapsed < seconds:
                samples += next(stream.samples)
                batches += 1
                elapsed = clock() - begin
            rates[name].append(samples / elapsed)
            time.sleep(stream.ahead * (time.perf_counter() - turn) / batches)
    return {name: Rate(tuple(values)) for name, values in rates.items()}


def in_rounds(rounds: int, say: Say) -> Iterator[int]:
    """Count from 1 to ``rounds``, and tell of each that is done."""
    began = time.perf_counter()
    for number in range(1, rounds + 1):
        yield number
        say(f"round {number} of {rounds} done, {time.perf_counter() - began:.0f} s")


def finish(device: torch.device) -> None:
    """Wait for a GPU; the CPU has nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratios(rate: Rate, to: Rate) -> Sequence[float]:
    """Round by round, how many times as fast as ``to``."""
    return [a / b for a, b in zip(rate.samples_per_second, to.samples_per_second, strict=True)]
