"""``embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cp2fast.cli.app import app
from cp2fast.config import root_of


@app.command(
    help="Write a vector of each photo, and draw which are alike.\n\n"
    "RUN is a run folder or checkpoint of pretraining; PHOTOS what data.root may be: a "
    "folder, shards, a URL, a pattern, @LIST. The vectors are unit vectors: their products are "
    "cosines. FILE is .npz (names, vectors) or .parquet.\n\n"
    "\b\nExample:\n"
    "  cp2fast embed runs/demo PHOTOS --out vectors.npz"
)
def embed(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Network.", show_default=False)],
    photos: Annotated[str, typer.Argument(metavar="PHOTOS", help="Photos.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File of the vectors.", metavar="FILE")],
) -> None:
    """Parse, then embed."""
    from cp2fast.probe.embed import run_embed

    run_embed(run, root_of(photos), out)
