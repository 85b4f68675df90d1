"""The result of a benchmark: what was measured, on which machine, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from cp2fast.bench.timing import Rate, ratios
from cp2fast.machine import machine as this_machine
from cp2fast.machine import versions as installed_versions


@dataclass(frozen=True)
class Result:
    """The figures of one system.

    Attributes:
        system: ``original``, ``torchvision``, ``kornia``, ``cp2fast-cpu``, ``cp2fast-dali``, ...
        images_per_second: median of the rounds, in images per second.
        spread: difference between the fastest and the slowest round, as a share of the median; None
            for a single round.
        ratio_to_original: rate relative to the original's, median of the rounds' ratios; None if
            the original was not measured.
        share_of_ceiling: share of this system's ceiling, 0 to 1; None if it has none.
    """

    system: str
    images_per_second: float
    spread: float | None
    ratio_to_original: float | None
    share_of_ceiling: float | None


@dataclass(frozen=True)
class Report:
    """One benchmark, which can be shown, saved and compared.

    Attributes:
        benchmark: ``augment``, ``loader``, ``train`` or ``run``.
        settings: what was run: images, sizes, batch, rounds, seconds, seed.
        results: results in the order measured.
        ceilings: upper limits for any system, in samples per second, by stage.
        bottleneck: one sentence: the limiting stage, the share of its limit that is reached, the
            setting to change.
        missing: systems that were not measured, with the reason.
        extra: figures of this benchmark only, such as FLOP rates or memory.
        machine: result of ``machine.machine()``.
        versions: result of ``machine.versions()``, including the commit.
    """

    benchmark: str
    settings: dict[str, Any]
    results: list[Result]
    ceilings: dict[str, float]
    bottleneck: str
    missing: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, str | int] = field(default_factory=this_machine)
    versions: dict[str, str] = field(default_factory=installed_versions)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def results_of(
    rates: Mapping[str, Rate], ceilings: Mapping[str, float], limited_by: Mapping[str, str]
) -> list[Result]:
    """The figures of each system, from the rates by system.

    Args:
        rates: rates by system.
        ceilings: samples per second, by stage.
        limited_by: name of the ceiling for each system; others have none.
    """
    original = rates.get("original")
    return [
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
    ]


def reports_of(kept: Mapping[str, Any]) -> list[Report]:
    """The reports in a parsed result that was saved with ``--json``, of one benchmark or of all."""
    return [
        Report(**{**report, "results": [Result(**row) for row in report["results"]]})
        for report in kept.get("reports", [kept])
    ]


def format_rate(rate: float) -> str:
    """A rate with at least three digits."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
