"""``bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import cp2fast
from cp2fast import recipes
from cp2fast.cli.app import SettingsOnly, app, settings_help
from cp2fast.config import PretrainSettings
from cp2fast.console import open_console
from cp2fast.files import refuse_target

if TYPE_CHECKING:
    from cp2fast.bench.report import Report


@app.command(
    help="Measure speed on this machine, and name the bottleneck.\n\n"
    "Other libraries that do the same are measured in turn with it.\n\n"
    "\b\nWHAT:\n"
    "  loader   photos on disk to composed pairs\n"
    "  augment  decoded photos to composed pairs\n"
    "  train    composed pairs to updated weights\n"
    "  run      whole runs and their parts: what is lost between them\n"
    "  all      one after the other, and which of them limits\n\n"
    "Takes the settings of pretrain, with defaults for batches, threads and scenes of its own; "
    "without data.root: the demo's images.\n\n"
    "\b\nExamples:\n"
    "  cp2fast bench all data.root=DIR --plot bench.png\n"
    "  cp2fast bench loader data.root=DIR --json now.json --against before.json\n"
    "  cp2fast bench train model.backbone=resnet18",
    epilog=settings_help(
        PretrainSettings,
        defaults={
            "data.batch_size": "32; train, run 8, on a GPU 256",
            "data.scenes": "320",
        },
    ),
)
def bench(
    what: Annotated[str, typer.Argument(metavar="[WHAT]", help="What to measure.")] = "all",
    arguments: SettingsOnly = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which all systems take turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds per system and round.")] = 4.0,
    beton: Annotated[
        Path | None,
        typer.Option(help="The same photos packed, to also measure FFCV.", metavar="FILE"),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the result as JSON.", metavar="FILE")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the chart.", metavar="FILE")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with a result written by --json.", metavar="FILE")
    ] = None,
) -> None:
    """Parse, then measure."""
    words = arguments or []
    if "=" in what:
        what, words = "all", [what, *words]
    recipes.load(PretrainSettings, None, words)
    refuse_target(json, "--json")
    refuse_target(plot, "--plot")

    from cp2fast.bench import chart, show
    from cp2fast.bench.benchmark import combine
    from cp2fast.run_folder import write_json

    if plot is not None:
        chart.check_format(plot)
    kept = None if against is None else show.read_kept(against)
    console, progress = open_console(), open_console(stderr=True)
    reports: list[Report] = []

    def keep_and_show(report: Report) -> None:
        reports.append(report)
        if json is not None:
            write_json(json, combine(reports) if what == "all" else report.to_json())
        show.show(report, console)
        if kept is not None:
            show.show_against(report, kept, console)

    cp2fast.benchmark(
        what,
        words,
        rounds=rounds,
        seconds=seconds,
        beton=beton,
        say=lambda name, line: progress.print(f"bench {name}: {line}"),
        on_report=keep_and_show,
    )
    if what == "all":
        console.print(combine(reports)["bottleneck"])
    if plot is not None:
        chart.plot(reports, plot)
