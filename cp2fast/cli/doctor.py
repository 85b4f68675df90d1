"""``doctor``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

import cp2fast
from cp2fast import recipes
from cp2fast.cli.app import RecipeAndSettings, app, settings_help, split_words
from cp2fast.config import PretrainSettings
from cp2fast.console import open_console
from cp2fast.errors import UserError
from cp2fast.files import refuse_target


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
    arguments: RecipeAndSettings = None,
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
    refuse_target(json, "--json")
    refuse_target(write, "--write")
    if json is not None and write is not None and os.path.realpath(json) == os.path.realpath(write):
        raise UserError(f"--json and --write both name {json}: name two files")
    if write is not None and settings.data.root is None:
        raise UserError(f"--write {write} needs a data set to look at: set data.root=DIR")

    from cp2fast.inspection.doctor_report import CheckLines, show_data, show_machine, show_verdict
    from cp2fast.run_folder import write_json

    console = open_console()
    show_machine(console)
    found = cp2fast.doctor(settings, on_check=CheckLines(console))
    show_data(console, found)
    if write is not None:
        found.write_recipe(write)
        console.print(f"wrote {write}; see it with: cp2fast preview {quote(str(write))}")
    show_verdict(console, found, None if write is None else f"cp2fast pretrain {quote(str(write))}")
    if json is not None:
        write_json(json, found.to_json())
        console.print(f"wrote {json}")
    if not found.works:
        sys.exit(1)
