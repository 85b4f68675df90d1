"""The result of a benchmark: what was measured, on what, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from cp2fast.bench.machine import machine, versions
from cp2fast.bench.timing import Rate, ratios


@dataclass(frozen=True)
class Result:
    """One system's figures.

    Attributes:
        system: ``original``, ``torchvision``, ``kornia``, ``cp2fast-cpu``, ``cp2fast-dali``, ...
        images_per_second: median of the rounds.
        spread: fastest to slowest round, as a share of the median; None of a single round.
        ratio_to_original: how many times the original's rate, median of the rounds' ratios; None
            where the original was not measured.
        share_of_ceiling: of the ceiling that limits this system, 0 to 1; None where it has none.
    """

    system: str
    images_per_second: float
    spread: float | None
    ratio_to_original: float | None
    share_of_ceiling: float | None


@dataclass(frozen=True)
class Report:
    """One benchmark, ready to be shown, kept and compared.

    Attributes:
        benchmark: ``augment``, ``loader``, ``train`` or ``run``.
        settings: what was run: images, sizes, batch, rounds, seconds, seed.
        results: in the order measured.
        ceilings: rates, in samples a second, that no system can exceed, by stage.
        bottleneck: one sentence: the stage that limits, the share of it reached, the setting to
            change.
        missing: systems that were not measured, and why.
        machine: of ``machine()``.
        versions: of ``versions()``, the commit included.
        extra: figures that belong to one benchmark only, such as FLOP rates or memory.
    """

    benchmark: str
    settings: dict[str, Any]
    results: list[Result]
    ceilings: dict[str, float]
    bottleneck: str
    missing: dict[str, str]
    machine: dict[str, str | int]
    versions: dict[str, str]
    extra: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)


def build_report(
    benchmark: str,
    settings: Mapping[str, Any],
    rates: Mapping[str, Rate],
    *,
    ceilings: Mapping[str, float],
    limited_by: Mapping[str, str],
    bottleneck: str,
    missing: Mapping[str, str],
    extra: Mapping[str, Any] | None = None,
) -> Report:
    """A report from measured rates.

    Args:
        benchmark: its name.
        settings: what was run.
        rates: by system.
        ceilings: samples a second, by stage.
        limited_by: system to the name of the ceiling above it; systems left out have none.
        bottleneck: the closing sentence.
        missing: systems left out, and why.
        extra: anything else worth keeping.
    """
    original = rates.get("original")
    return Report(
        benchmark=benchmark,
        settings=dict(settings),
        results=[
            Result(
                system=name,
                images_per_second=rate.median,
                spread=rate.spread,
                ratio_to_original=median(ratios(rate, original)) if original else None,
                share_of_ceiling=(
                    rate.median / ceilings[limited_by[name]] if name in limited_by else None
                ),
            )
            for name, rate in rates.items()
        ],
        ceilings=dict(ceilings),
        bottleneck=bottleneck,
        missing=dict(missing),
        machine=machine(),
        versions=versions(),
        extra=dict(extra or {}),
    )


def reports_of(kept: Mapping[str, Any]) -> list[Report]:
    """The reports of a result kept by ``--json``, of one benchmark or of all.

    Args:
        kept: the parsed file.
    """
    return [
        Report(**{**report, "results": [Result(**row) for row in report["results"]]})
        for report in kept.get("reports", [kept])
    ]


def format_rate(rate: float) -> str:
    """Three digits at least."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
