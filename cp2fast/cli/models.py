"""``models``."""

from __future__ import annotations

from typing import Annotated

import typer

from cp2fast.cli.app import app


@app.command(
    help="List the backbones that model.backbone takes.\n\n"
    "PATTERN is part of a name, or a pattern such as 'convnext*'; all are listed without one.\n\n"
    "\b\nExample:\n"
    "  cp2fast models 'convnext*'"
)
def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Of names.")] = "*",
) -> None:
    """Parse, then list."""
    from cp2fast.weights.listing import run_models

    run_models(pattern)
