"""``probe``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

import cp2fast
from cp2fast import recipes
from cp2fast.cli.app import app, settings_help
from cp2fast.config import ProbeSettings
from cp2fast.console import open_console

if TYPE_CHECKING:
    from cp2fast.probe.compare import Probed


@app.command(
    help="Compare how good frozen features are when labels are few.\n\n"
    "The nearest neighbours and a linear classifier learn from the features of some labelled "
    "images and are scored by mIoU on others; about a minute a network on two cores.\n\n"
    "NETWORK is a run folder, a checkpoint, a file of weights, or random.\n\n"
    "\b\nExamples:\n"
    "  cp2fast probe random runs/small data.root=DIR\n"
    "  cp2fast probe runs/a runs/b data.root=DIR --labels 1 --seeds 1",
    epilog=settings_help(ProbeSettings),
)
def probe(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="NETWORK... [KEY=VALUE]", help="Networks, and settings."),
    ] = None,
    labels: Annotated[
        float, typer.Option(help="Share of the labelled images to learn from.")
    ] = 0.125,
    seeds: Annotated[int, typer.Option(min=1, help="Random choices of that share.")] = 3,
    place: Annotated[
        Literal["backbone", "head", "embedding"],
        typer.Option(help="Layer whose features are used."),
    ] = "backbone",
    out: Annotated[Path, typer.Option(help="New folder for picture and JSON.", metavar="DIR")] = (
        Path("runs/probe")
    ),
) -> None:
    """Parse, then probe."""
    words = arguments or []
    names = [word for word in words if "=" not in word or os.path.exists(word)]
    settings = recipes.load(ProbeSettings, None, [word for word in words if word not in names])

    console = open_console()
    probed = cp2fast.compare_probes(
        names,
        settings,
        labels=labels,
        seeds=seeds,
        place=place,
        out=out,
        say=console.print,
    )

    from cp2fast.probe.compare import PICTURE, RESULT

    console.print(_table(probed))
    console.print(f"wrote {out / PICTURE} and {out / RESULT}")


def _table(probed: Sequence[Probed]) -> Table:
    """The mIoU of each network, beside its gain over the first."""
    first = probed[0]
    table = Table("network", "k-NN", "linear", f"linear over {first.name}", title="mIoU")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in probed:
        gains = [a - b for a, b in zip(one.values("linear"), first.values("linear"), strict=True)]
        table.add_row(
            one.name,
            _spread(one.values("knn")),
            _spread(one.values("linear")),
            "" if one is first else _spread(gains, "+"),
        )
    return table


def _spread(values: Sequence[float], sign: str = "") -> str:
    mean = f"{fmean(values):{sign}.1%}"
    return mean if len(values) < 2 else f"{mean} σ {stdev(values):.1%}"
