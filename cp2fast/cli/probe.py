"""``probe``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cp2fast import recipes
from cp2fast.cli.app import app, settings_help
from cp2fast.config import ProbeSettings


class Place(StrEnum):
    """What ``probe --place`` takes."""

    backbone = "backbone"
    head = "head"
    embedding = "embedding"


@app.command(
    help="Compare what frozen features are worth, with few labels.\n\n"
    "The nearest neighbours and a linear classifier learn from the features of some labelled "
    "images and are scored by mIoU on others; about a minute a network on two cores.\n\n"
    "WHAT are run folders, checkpoints, files of weights, or random.\n\n"
    "\b\nExamples:\n"
    "  cp2fast probe random runs/small data.root=DIR\n"
    "  cp2fast probe runs/a runs/b data.root=DIR --labels 1 --seeds 1",
    epilog=settings_help(ProbeSettings),
)
def probe(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="WHAT... [KEY=VALUE]", help="Networks, and settings."),
    ] = None,
    labels: Annotated[
        float, typer.Option(help="Share of the labelled images that is learned from.")
    ] = 0.125,
    seeds: Annotated[int, typer.Option(min=1, help="Times that such a share is drawn.")] = 3,
    place: Annotated[
        Place, typer.Option(help="Where the features are taken.", case_sensitive=False)
    ] = Place.backbone,
    out: Annotated[Path, typer.Option(help="New folder for picture and JSON.", metavar="DIR")] = (
        Path("runs/probe")
    ),
) -> None:
    """Parse, then probe."""
    words = arguments or []
    names = [word for word in words if "=" not in word]
    settings = recipes.load(ProbeSettings, None, [word for word in words if "=" in word])

    from cp2fast.probe.command import run_probe

    run_probe(settings, names, labels, seeds, place.value, out)
