"""The share of time that a GPU is idle in some steps of a run, from the profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.profiler import ProfilerActivity, profile


def idle_share(first: int, last: int) -> tuple[Callable[[int], None], Callable[[], float]]:
    """A function to call before each step, and one that returns the share after the run.

    Args:
        first: first step to profile.
        last: one after the last step to profile.
    """
    profiler = profile(activities=[ProfilerActivity.CUDA])

    def watch(step: int) -> None:
        if step == first:
            torch.cuda.synchronize()
            profiler.start()
        elif step == last:
            torch.cuda.synchronize()
            profiler.stop()

    def found() -> float:
        events = profiler.events() or []  # type: ignore[no-untyped-call]
        work = [event for event in events if event.device_type.name == "CUDA"]
        return idle_of((event.time_range.start, event.time_range.end) for event in work)

    return watch, found


def idle_of(intervals: Iterable[tuple[float, float]]) -> float:
    """The share between the first start and the last end that no interval covers."""
    ordered = sorted(intervals)
    if not ordered:
        return 1.0
    begin, covered_to = ordered[0][0], ordered[0][0]
    covered = 0.0
    for start, end in ordered:
        covered += max(0.0, end - max(start, covered_to))
        covered_to = max(covered_to, end)
    return 1 - covered / (covered_to - begin)
