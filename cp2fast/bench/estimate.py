"""How long a benchmark takes at least, from what it will measure; known before anything is made."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cp2fast.bench.ceilings import decoder_names
from cp2fast.bench.loader_task import SYSTEMS, Task, find_missing
from cp2fast.bench.run import COUNTS
from cp2fast.config import PretrainSettings
from cp2fast.copypaste.backends import available_backends
from cp2fast.data.source import available_sources
from cp2fast.train.precision import dtype_of


def count_loader(task: Task) -> int:
    """Systems and ceilings of ``bench_loader``."""
    missing = find_missing(task)
    decoded = 2 if task.beton is not None and task.beton is not task.images else 1
    limits = [*decoder_names() * decoded, "augment", "read", "transfer"]
    return sum(name not in missing for name in (*SYSTEMS, *limits))


def count_augment() -> int:
    """Systems of ``bench_augment``; its ceilings take no turns."""
    backends = available_backends()
    peers = [problem is None for problem in (backends["reference"], available_sources()["dali"])]
    ours = 1 if backends["cuda"] else 2
    return 2 + ours + sum(peers) * (2 if torch.cuda.is_available() else 1)


def count_train(settings: PretrainSettings, device: torch.device) -> int:
    """Both systems of ``bench_train``, and a matrix product for each of their dtypes."""
    return 2 + len({torch.float32, dtype_of(settings.train.precision, device)})


def count_run() -> int:
    """A run and two of its parts for each data set, and two parts that need none."""
    return 3 * len(COUNTS) + 2


def least_time(counts: Mapping[str, int], rounds: int, seconds: float) -> str:
    """One line: what is to be measured, and the time below which it cannot be.

    Args:
        counts: systems and ceilings that take turns, by benchmark.
        rounds: rounds counted.
        seconds: of each system in each round.
    """
    least = sum(counts.values()) * rounds * seconds
    parts = ", ".join(f"{name} {count}" for name, count in counts.items())
    return (
        f"at least {_duration(least)}: {rounds} x {seconds:g} s for each system and ceiling "
        f"({parts}), and longer where a batch takes longer than that"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
