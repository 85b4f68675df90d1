"""``predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cp2fast
from cp2fast.cli.app import app
from cp2fast.console import open_console
from cp2fast.errors import UserError
from cp2fast.wording import counted


@app.command(
    help="Segment photos: a palette PNG and an overlay for each.\n\n"
    "RUN is the run folder or a checkpoint of a fine-tuning. PHOTOS are files, or what data.root "
    "may be: folders, whose structure is kept, shards, URLs, patterns, @LIST. Each photo is "
    "segmented at its own size.\n\n"
    "\b\nExamples:\n"
    "  cp2fast predict runs/finetune-demo photos --out masks\n"
    "  cp2fast predict runs/aerial aerial.tif --tile 1024 --out masks"
)
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="RUN", help="The fine-tuned network.", show_default=False)
    ],
    images: Annotated[
        list[str],
        typer.Argument(metavar="PHOTOS", help="Photos, or what holds them.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the masks.", metavar="DIR")],
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities", help="Also write the probability of each class, as NAME.npz."
        ),
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Cut longer photos into overlapping tiles of this side, each segmented by itself; "
            "photos beyond data.max_pixels always are.",
            metavar="PIXELS",
        ),
    ] = None,
) -> None:
    """Parse, then predict."""
    found = cp2fast.predict(model, images, out, probabilities=probabilities, tile=tile)
    console = open_console()
    tiles = f", {found.tiled} of them in tiles of {found.tile_side} pixels" if found.tiled else ""
    console.print(
        f"{counted(len(found.masks), 'mask')} with overlays in {out}{tiles} (palette PNG, "
        f"{len(found.classes)} classes: {', '.join(found.classes)})"
    )
    bad = [f"{photo}: {reason}" for photo, reason in found.unreadable.items()]
    if len(bad) > 1:
        for line in bad:
            console.print(line)
    if bad:
        more = f" (and {len(bad) - 1} more, all named above)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}; the others were segmented{more}")
