"""``predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cp2fast.cli.app import app
from cp2fast.config import root_of


@app.command(
    help="Segment photos: a palette PNG and an overlay of each.\n\n"
    "MODEL is a fine-tuning's run folder or checkpoint; IMAGES are files and what data.root "
    "may be: folders, whose shape is kept, shards, URLs, patterns, @LIST. Each photo is "
    "segmented at its own size.\n\n"
    "\b\nExamples:\n"
    "  cp2fast predict runs/finetune-demo photos --out masks\n"
    "  cp2fast predict runs/aerial aerial.tif --tile 1024 --out masks"
)
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="What to predict with.", show_default=False)
    ],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES", help="Photos, or what holds them.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the masks.", metavar="DIR")],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write those of all classes too, as NAME.npz.")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Cut longer photos into overlapping tiles of so many pixels, each segmented by "
            "itself; those beyond data.max_pixels always are.",
            metavar="PIXELS",
        ),
    ] = None,
) -> None:
    """Parse, then predict."""
    from cp2fast.finetune.predict import run_predict

    run_predict(model, [root_of(one) for one in images], out, probabilities, tile)
