"""``doctor``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cp2fast import recipes
from cp2fast.cli.app import app, settings_help, split_words
from cp2fast.config import PretrainSettings


@app.command(
    help="Test what works here, and how healthy a folder of images is.\n\n"
    "Decodes, composes and trains a few tiny pictures with everything that is installed; names "
    "what is missing and the line that installs it. Exit code 1: pretraining does not work.\n\n"
    "\b\nExamples:\n"
    "  cp2fast doctor\n"
    "  cp2fast doctor r50 data.root=DIR --json doctor.json\n"
    "  cp2fast doctor small data.root=DIR --write my.yaml",
    epilog=settings_help(PretrainSettings),
)
def doctor(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]", help="Recipe and settings."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write everything found as JSON.", metavar="FILE")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write a recipe for pretrain with the range, bands, mean and deviation that suit "
            "the images.",
            metavar="FILE.yaml",
        ),
    ] = None,
) -> None:
    """Parse, then test."""
    recipe, words = split_words(arguments)
    settings = recipes.load(PretrainSettings, recipe, words)

    from cp2fast.inspection.doctor import run_doctor

    if not run_doctor(settings, json, write):
        sys.exit(1)
