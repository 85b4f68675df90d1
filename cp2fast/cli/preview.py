"""``preview``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cp2fast
from cp2fast import recipes
from cp2fast.cli.app import RecipeAndSettings, app, settings_help, split_words
from cp2fast.config import PretrainSettings
from cp2fast.console import open_console


@app.command(
    help="Draw the input of a network, or what it has learned.\n\n"
    "The input is shown as photos, crops and composed pairs, with their random parameters. Takes "
    "the settings of pretrain; without arguments: the demo data. With --model, the picture shows "
    "where in the key a network finds a place of the query.\n\n"
    "\b\nExamples:\n"
    "  cp2fast preview\n"
    "  cp2fast preview r50 data.root=DIR --n 6 --out pairs.png\n"
    "  cp2fast preview --model runs/r50",
    epilog=settings_help(PretrainSettings, "demo"),
)
def preview(
    arguments: RecipeAndSettings = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Run folder, checkpoint or file of weights.", metavar="PATH"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="PNG or WebP (default preview.png or similarity.png).", metavar="FILE"),
    ] = None,
    n: Annotated[int, typer.Option(min=1, max=32, help="Pairs to draw.")] = 4,
) -> None:
    """Parse, then draw."""
    recipe, words = split_words(arguments)
    stored = None if model is None else recipes.stored_beside(model)
    settings = recipes.load(PretrainSettings, recipe or stored or "demo", words)
    console = open_console()
    if model is None:
        path = out or Path("preview.png")
        pairs = cp2fast.preview(settings, out=path, count=n)
    else:
        path = out or Path("similarity.png")
        found = cp2fast.similarity(model, settings, out=path, count=n)
        pairs = found.pairs
        console.print(f"{model}: {found.loaded}")
        console.print(f"{found.cells} foreground cells of {len(pairs)} pairs: {found}")
    if pairs.range_line:
        console.print(pairs.range_line)
    for line in pairs.bad:
        console.print(f"replaced an unreadable image: {line.replace(chr(9), ': ')}")
    console.print(f"wrote {path}")
