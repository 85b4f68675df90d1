"""``bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cp2fast import recipes
from cp2fast.cli.app import app, settings_help
from cp2fast.config import PretrainSettings


@app.command(
    help="Measure speed on this machine, and name the bottleneck.\n\n"
    "Other ways to do the same are measured beside it, in turns.\n\n"
    "\b\nWHAT:\n"
    "  loader   photos on disk to composed pairs\n"
    "  augment  decoded photos to composed pairs\n"
    "  train    composed pairs to updated weights\n"
    "  run      whole runs beside their parts: what is lost between them\n"
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
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]", help="Settings.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which all take turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=0, help="Of each system in each round.")] = 4.0,
    beton: Annotated[
        Path | None,
        typer.Option(help="The same photos packed, to measure FFCV too.", metavar="FILE"),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Keep the result.", metavar="FILE")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the chart.", metavar="FILE")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with a kept result.", metavar="FILE")
    ] = None,
) -> None:
    """Parse, then measure."""
    words = arguments or []
    if "=" in what:
        what, words = "all", [what, *words]
    recipes.load(PretrainSettings, None, words)

    from cp2fast.bench.command import Options, run_bench

    run_bench(what, words, Options(rounds, seconds, beton, json, plot, against))
