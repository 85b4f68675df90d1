"""Print benchmark reports: a table, and a comparison with a saved result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cp2fast.bench.report import Report, format_rate, reports_of
from cp2fast.errors import UserError
from cp2fast.files import read_text


def show(report: Report, console: Console) -> None:
    """Print the table, what was not measured and why, and the bottleneck."""
    machine = report.machine
    gpu = "" if machine["gpu"] == "none" else f", {machine['gpu']}"
    table = Table(
        title=f"bench {report.benchmark}: {machine['cores']} cores, {machine['cpu']}{gpu}"
    )
    table.add_column("system")
    for column in ("images/s", "spread", "times the original", "share of its ceiling"):
        table.add_column(column, justify="right")
    for result in report.results:
        table.add_row(
            result.system,
            format_rate(result.images_per_second),
            _or_dash(result.spread, ".0%"),
            _or_dash(result.ratio_to_original, ".2f"),
            _or_dash(result.share_of_ceiling, ".0%"),
        )
    console.print(table)
    ceilings = ", ".join(f"{stage} {format_rate(rate)}" for stage, rate in report.ceilings.items())
    if ceilings:
        console.print(f"ceilings, samples/s: {ceilings}")
    for system, reason in report.missing.items():
        console.print(f"not measured: {system}: {reason}")
    console.print(report.bottleneck)


def read_kept(path: Path) -> list[Report]:
    """Read a result saved with ``--json``.

    Raises:
        UserError: it cannot be read, or is not a result.
    """
    try:
        return reports_of(json.loads(read_text(path)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"--against {path}: not a result of cp2fast bench ({error})") from error


def show_against(report: Report, kept: Sequence[Report], console: Console) -> None:
    """Print the speed of each system relative to a saved result."""
    before = next((one for one in kept if one.benchmark == report.benchmark), None)
    if before is None:
        console.print(f"bench {report.benchmark}: not in the saved result")
        return
    rates = {result.system: result.images_per_second for result in before.results}
    table = Table(title=f"bench {report.benchmark}, against {before.versions['commit']}")
    table.add_column("system")
    for column in ("then", "now", "now / then", "spread now"):
        table.add_column(column, justify="right")
    for result in report.results:
        then, now = rates.get(result.system), result.images_per_second
        if then:
            cells = f"{then:.1f}", f"{now:.1f}", f"{now / then:.2f}"
            table.add_row(result.system, *cells, _or_dash(result.spread, ".0%"))
    console.print(table)
    for key in ("cpu", "cores", "gpu"):
        was, is_now = before.machine[key], report.machine[key]
        if was != is_now:
            console.print(f"another machine: {key} was {was}, is {is_now}")


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
