"""``models``."""

from __future__ import annotations

from typing import Annotated

import typer

import cp2fast
from cp2fast.cli.app import app


@app.command(
    help="List the backbones that model.backbone takes.\n\n"
    "PATTERN is part of a name or a pattern such as 'convnext*'; without it all are listed.\n\n"
    "\b\nExample:\n"
    "  cp2fast models 'convnext*'"
)
def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Names to list.")] = "*",
) -> None:
    """Parse, then list."""
    rows = [(name, family, " ".join(tags)) for name, family, tags in cp2fast.list_models(pattern)]
    head = ("model.backbone", "family", "weights, as in model.init=timm/MODEL.TAG")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in (0, 1)]
    for name, family, weights in (head, *rows):  # no table: names must be complete for copying
        print(f"{name:<{widths[0]}}  {family:<{widths[1]}}  {weights}".rstrip())
