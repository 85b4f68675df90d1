"""Print benchmark reports: a table, and a comparison with a saved result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cp2fast.bench.report import Report, format_rate
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


def read_kept(path: Path) -> dict[str, Any]:
    """Read a result saved with ``--json``.

    Raises:
        UserError: it does not exist, cannot be read, or is not a result.
    """
    if not path.exists():
        raise UserError(
            f"--against {path}: there is no such file; name a result kept with cp2fast bench --json"
        )
    try:
        kept = json.loads(read_text(path))
        complete = all(isinstance(kept[part], dict) for part in ("machine", "versions")) and all(
            isinstance(row["system"], str) and isinstance(row["images_per_second"], int | float)
            for row in kept["results"]
        )
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"--against {path}: not a result of cp2fast bench ({error})") from error
    if not complete:
        raise UserError(f"--against {path}: not a result of cp2fast bench --json")
    return dict(kept)


def show_against(report: Report, kept: Mapping[str, Any], console: Console) -> None:
    """Print the speed of each system relative to a saved result."""
    before = {
        row["system"]: row["images_per_second"]
        for row in kept["results"]
        if row.get("benchmark", kept.get("benchmark")) in (report.benchmark, None)
    }
    table = Table(title=f"bench {report.benchmark}, against {kept['versions'].get('commit', '?')}")
    table.add_column("system")
    for column in ("then", "now", "now / then", "spread now"):
        table.add_column(column, justify="right")
    for result in report.results:
        then, now = before.get(result.system), result.images_per_second
        if then:
            cells = f"{then:.1f}", f"{now:.1f}", f"{now / then:.2f}"
            table.add_row(result.system, *cells, _or_dash(result.spread, ".0%"))
    console.print(table if table.row_count else f"bench {report.benchmark}: nothing in common")
    for key in ("cpu", "cores", "gpu"):
        if kept["machine"].get(key) != report.machine[key]:
            console.print(
                f"another machine: {key} was {kept['machine'].get(key)}, is {report.machine[key]}"
            )


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
