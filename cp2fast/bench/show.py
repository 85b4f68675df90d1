"""Benchmark reports for people: a table, a bar chart, a comparison with a kept result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cp2fast.bench.report import Report, format_rate
from cp2fast.errors import UserError
from cp2fast.train.run_folder import atomic_write

_ROOM = 1.25
"""Length of the longest bar, times the fastest system."""
_OURS, _THEIRS, _CEILING = "#2a6f97", "#a9b4bd", "#c1440e"


def show(report: Report, console: Console) -> None:
    """The table, what was not measured and why, and the bottleneck."""
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
            f"{result.spread:.0%}",
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


def plot(reports: Sequence[Report], path: Path) -> None:
    """Bars of every system, its slowest to fastest round, and the ceilings; one panel a report."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = [len(report.results) + len(report.ceilings) for report in reports]
    figure = Figure(
        figsize=(8, 1.0 + 0.36 * sum(rows) + 0.7 * len(rows)),
        layout=ConstrainedLayoutEngine(hspace=0.06),
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(reports), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axes, report in zip(panels, reports, strict=True):
        bars = [
            *((r.system, r.images_per_second, _colour(r.system)) for r in report.results),
            *((f"ceiling: {name}", rate, _CEILING) for name, rate in report.ceilings.items()),
        ]
        names, rates, colours = zip(*bars, strict=True)
        # A ceiling far above all systems would leave them no room: its bar is cut.
        longest = _ROOM * max(result.images_per_second for result in report.results)
        drawn = axes.barh(names, [min(r, longest) for r in rates], color=colours, height=0.7)
        labels = [f"{format_rate(rate)}{' (bar cut)' if rate > longest else ''}" for rate in rates]
        axes.bar_label(drawn, labels=labels, padding=4, fontsize=9)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        gpu = "" if report.machine["gpu"] == "none" else f", {report.machine['gpu']}"
        axes.set_title(
            f"bench {report.benchmark}: images/s (median), {report.machine['cores']} cores, "
            f"{report.machine['cpu']}{gpu}",
            loc="left",
            fontsize=10,
        )
    buffer = BytesIO()
    figure.savefig(buffer, format=path.suffix.lstrip(".").lower() or "png", dpi=130)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def read_kept(path: Path) -> dict[str, Any]:
    """A result kept by ``--json``.

    Raises:
        UserError: it cannot be read, or is not one.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        complete = {"results", "machine", "versions"} <= kept.keys() and all(
            {"system", "images_per_second"} <= row.keys() for row in kept["results"]
        )
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError) as error:
        raise UserError(f"--against {path}: not a result of cp2fast bench ({error})") from error
    if not complete:
        raise UserError(f"--against {path}: not a result of cp2fast bench --json")
    return dict(kept)


def show_against(report: Report, kept: Mapping[str, Any], console: Console) -> None:
    """How many times as fast as in a kept result each system is now."""
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
            cells = f"{then:.1f}", f"{now:.1f}", f"{now / then:.2f}", f"{result.spread:.0%}"
            table.add_row(result.system, *cells)
    console.print(table if table.row_count else f"bench {report.benchmark}: nothing in common")
    for key in ("cpu", "cores", "gpu"):
        if kept["machine"].get(key) != report.machine[key]:
            console.print(
                f"another machine: {key} was {kept['machine'].get(key)}, is {report.machine[key]}"
            )


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _colour(system: str) -> str:
    return _OURS if system.startswith(("cp2fast", "decode-")) else _THEIRS
