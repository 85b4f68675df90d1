"""``pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cp2fast
from cp2fast import recipes
from cp2fast.cli.app import RecipeAndSettings, Resume, app, settings_help, split_words
from cp2fast.config import PretrainSettings


@app.command(
    help="Pretrain a network. Without arguments: the demo, a few minutes on two CPU cores.\n\n"
    f"RECIPE is the name of a recipe ({', '.join(recipes.names(PretrainSettings))}) or a YAML "
    "file.\n\n\b\nExamples:\n"
    "  cp2fast pretrain\n"
    "  cp2fast pretrain r50 data.root=DIR\n"
    "  cp2fast pretrain --resume --out runs/r50",
    epilog=settings_help(PretrainSettings, "demo"),
)
def pretrain(
    arguments: RecipeAndSettings = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder (default runs/RECIPE).", metavar="DIR")
    ] = None,
    resume: Resume = False,
) -> None:
    """Parse, then train."""
    recipe, words = split_words(arguments)
    cp2fast.pretrain(recipe, words, out=out, resume=resume)
