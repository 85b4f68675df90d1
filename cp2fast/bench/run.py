"""Whole runs compared with their parts: how much speed is lost, and where.

    photos -> source -> op -> pairs | engine | network

A run is measured together with its parts (``run_parts.py``), each on data sets of several sizes,
with checkpoints according to the settings. Without a GPU, where the epoch in which a pixel cache
fills can take an hour, there is none.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cp2fast.bench.host import host_milliseconds
from cp2fast.bench.report import Report, format_rate, results_of
from cp2fast.bench.run_parts import FEWEST_STEPS, Measure, Measured, Parts, data_set
from cp2fast.bench.timing import Rate, Say, in_rounds, least_time, silent
from cp2fast.bench.train import settings_of_step
from cp2fast.config import PretrainSettings
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.train.accounts import Account, shares_of
from cp2fast.train.advice import of_whole_run

COUNTS = (40, 500, 5000)
"""Sizes of the data sets; the given images are repeated as needed."""


def bench_run(
    settings: PretrainSettings,
    images: ImageSet,
    device: torch.device,
    rounds: int,
    seconds: float,
    say: Say = silent,
    counts: Sequence[int] = COUNTS,
) -> Report:
    """Measure runs and their parts; see ``measure`` for the arguments.

    The data sets of the runs consist of ``images``; those of ``counts`` that are too small for a
    step are skipped.

    Raises:
        UserError: the settings are invalid.
    """
    samples = settings.data.batch_size * settings.train.gradient_accumulation_steps
    if device.type != "cuda":
        settings = settings.with_values("data", cache="off")
    counts = [count for count in counts if count >= samples] or [samples]
    scratch = Path(tempfile.mkdtemp(prefix="cp2fast-bench-"))
    try:
        roots = {count: data_set(images, count, scratch / f"images-{count}") for count in counts}
        parts = Parts(settings, device, scratch, say)
        systems = parts.systems(roots)
        measured = _take_turns(systems, FEWEST_STEPS[device.type], parts, rounds, seconds, say)
        idle = parts.idle(roots[counts[-1]], counts[-1]) if device.type == "cuda" else None
        host = host_milliseconds(parts.task(roots[counts[-1]]))
    finally:
        shutil.rmtree(scratch)
    return _report(parts, counts, measured, host, idle, rounds, seconds)


def _take_turns(
    systems: Mapping[str, Measure],
    fewest: int,
    parts: Parts,
    rounds: int,
    seconds: float,
    say: Say,
) -> dict[str, list[Measured]]:
    """Measure all systems in every round, with enough steps each for the minimum time.

    The number of steps is estimated from a run of ``fewest``; if these suffice, it is the first
    round.
    """
    say(least_time("runs and parts", len(systems), rounds, seconds))
    firsts = {name: measure(fewest) for name, measure in systems.items()}
    steps = {
        name: max(fewest, ceil(seconds * first.rate / parts.samples))
        for name, first in firsts.items()
    }
    for name, first in firsts.items():
        say(f"{name}: about {format_rate(first.rate)} images/s, {steps[name]} steps a round")
    found = {name: [first] if steps[name] == fewest else [] for name, first in firsts.items()}
    for number in in_rounds(rounds, say):
        for name, measure in systems.items():
            if len(found[name]) < number:
                found[name].append(measure(steps[name]))
    return found


class Loss(NamedTuple):
    """The speed lost relative to the parts.

    Attributes:
        whole: name of the combination that was measured.
        parts: names of its parts.
        share: share of the rate that the parts allow together; 1 if nothing is lost.
    """

    whole: str
    parts: tuple[str, ...]
    share: float


def losses(rates: Mapping[str, float], counts: Sequence[int], on_gpu: bool) -> list[Loss]:
    """The loss of each combination, largest first.

    On a GPU, parts work in parallel and the slowest sets the pace; on a CPU they take turns.
    """
    wholes: dict[str, tuple[str, ...]] = {"ready": ("step",)}
    for count in counts:
        wholes[f"engine-{count}"] = (f"loader-{count}",)
        wholes[f"run-{count}"] = (f"engine-{count}", "ready")
    found = []
    for whole, parts in wholes.items():
        alone = [rates[part] for part in parts]
        allowed = min(alone) if on_gpu else 1 / sum(1 / rate for rate in alone)
        found.append(Loss(whole, parts, rates[whole] / allowed))
    return sorted(found, key=lambda loss: loss.share)


_MEANS = {
    "step": "the network's step alone",
    "ready": "the engine with pairs prepared in advance",
    "engine": "the engine with a step that does nothing",
    "loader": "loader and op alone",
    "run": "the whole run",
}


def _in_words(system: str) -> str:
    name, _, count = system.partition("-")
    return f"{_MEANS[name]} on {int(count):,} images" if count else _MEANS[name]


def _report(
    parts: Parts,
    counts: Sequence[int],
    measured: Mapping[str, Sequence[Measured]],
    host: Mapping[str, float],
    idle: float | None,
    rounds: int,
    seconds: float,
) -> Report:
    rates = {name: Rate(tuple(one.rate for one in each)) for name, each in measured.items()}
    medians = {name: rate.median for name, rate in rates.items()}
    found = losses(medians, counts, parts.device.type == "cuda")
    shares = {loss.whole: loss.share for loss in found}
    times = {name: _mean_time(each) for name, each in measured.items() if each[0].time is not None}
    ceilings = {
        _in_words(name): rate
        for name, rate in medians.items()
        if name.partition("-")[0] in ("step", "loader")
    } | {f"what the parts of {name} allow": medians[name] / share for name, share in shares.items()}
    extra: dict[str, Any] = {
        "losses": [loss._asdict() for loss in found],
        "time": times,
        "host_milliseconds_per_step": dict(host),
        "share_of_ready": {
            f"run-{count}": medians[f"run-{count}"] / medians["ready"] for count in counts
        },
    }
    if idle is not None:
        extra["gpu_idle_share"] = idle
        extra["peak_memory_gib"] = {
            name: max(one.memory for one in each) / 2**30 for name, each in measured.items()
        }
    runs = {f"cp2fast-{name}": rates[name] for name in rates if name in shares}
    limited_by = {f"cp2fast-{name}": f"what the parts of {name} allow" for name in shares}
    return Report(
        "run",
        {
            **settings_of_step(parts.settings, parts.device, parts.learner.dtype),
            "images": list(counts),
            "checkpoint_minutes": parts.settings.train.checkpoint_minutes,
            "cache": parts.settings.data.cache,
            "rounds": rounds,
            "seconds": seconds,
        },
        results_of(runs, ceilings, limited_by),
        ceilings=ceilings,
        bottleneck=_bottleneck(found[0], times[found[0].whole], host, idle),
        extra=extra,
    )


def _bottleneck(
    largest: Loss, time: Mapping[Account, float], host: Mapping[str, float], idle: float | None
) -> str:
    """The largest loss, what took much of its time, and what a step costs the host."""
    parts = " and ".join(_in_words(part) for part in largest.parts)
    verb = "allows" if len(largest.parts) == 1 else "allow together"
    return "; ".join(
        [
            f"largest loss: {_in_words(largest.whole)} reaches {largest.share:.0%} of what {parts} "
            f"{verb}",
            *of_whole_run(time),
            *([] if idle is None else [f"the GPU is idle for {idle:.1%} of a run"]),
            "the host's ms a step: " + ", ".join(f"{part} {ms:.2f}" for part, ms in host.items()),
        ]
    )


def _mean_time(each: Sequence[Measured]) -> dict[Account, float]:
    """Mean over the rounds."""
    spent: dict[Account, float] = {}
    for one in each:
        for account, share in (one.time or {}).items():
            spent[account] = spent.get(account, 0.0) + share
    return dict(shares_of(spent))
