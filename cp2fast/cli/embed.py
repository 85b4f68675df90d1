"""``embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cp2fast
from cp2fast.cli.app import app
from cp2fast.console import open_console
from cp2fast.wording import counted


@app.command(
    help="Write a vector for each photo, and draw which are alike.\n\n"
    "RUN is the run folder or a checkpoint of a pretraining; PHOTOS is what data.root may be: a "
    "folder, shards, a URL, a pattern, @LIST. The vectors are unit vectors: their products are "
    "cosines. FILE is .npz (names, vectors) or .parquet.\n\n"
    "\b\nExample:\n"
    "  cp2fast embed runs/demo PHOTOS --out vectors.npz"
)
def embed(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The network.", show_default=False)],
    photos: Annotated[str, typer.Argument(metavar="PHOTOS", help="Photos.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File of the vectors.", metavar="FILE")],
) -> None:
    """Parse, then embed."""
    found = cp2fast.embed(run, photos, out)

    from cp2fast.probe.embed import picture_of

    console = open_console()
    for name, reason in found.left_out:
        console.print(f"left out {name}: {reason}")
    console.print(f"wrote {counted(len(found.names), 'vector')} to {out}")
    if len(found.names) > 1:
        console.print(f"wrote {picture_of(out)}")
