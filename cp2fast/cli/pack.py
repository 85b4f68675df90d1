"""``pack``."""

from __future__ import annotations

from typing import Annotated

import typer

from cp2fast import recipes
from cp2fast.cli.app import app
from cp2fast.config import PretrainSettings


@app.command(
    help="Pack images: smaller ones, in few files.\n\n"
    "OUT ends in .beton (FFCV's format) or .tar, or is a folder for tar shards, here or at a URL. "
    "A pack that was stopped goes on when the same command is given again.\n\n"
    "\b\nExamples:\n"
    "  cp2fast pack photos photos.beton --max-side 512\n"
    "  cp2fast pack photos shards/ --keep-bytes\n"
    "  cp2fast pack photos s3://BUCKET/shards --keep-bytes"
)
def pack(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="What data.root may be: a folder, shards, a URL.")
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="FILE.beton, FILE.tar, a folder, or their URL.")
    ],
    max_side: Annotated[
        int | None, typer.Option(min=1, help="Reduce images whose longer side is more than this.")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG encoded anew.")] = 90,
    keep_bytes: Annotated[
        bool, typer.Option("--keep-bytes", help="Leave JPEG as it is where it fits.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads (default: all cores).")
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Images a shard.")] = 1000,
    values: Annotated[
        str,
        typer.Option(
            "--range",
            help="Values of 16-bit, float and DICOM images that become black and white, as "
            "data.range.",
            metavar="auto|type|LOW,HIGH",
        ),
    ] = "auto",
    bands: Annotated[
        str | None,
        typer.Option(help="Three bands, or one, counted from 1.", metavar="RED,GREEN,BLUE"),
    ] = None,
) -> None:
    """Parse, then pack."""
    words = [
        f"data.root={source}",
        f"data.range={values}",
        *([] if bands is None else [f"data.bands={bands}"]),
    ]
    data = recipes.load(PretrainSettings, None, words).data
    from cp2fast.data.pack_command import run_pack

    run_pack(
        data.root or source,
        out,
        max_side,
        quality,
        keep_bytes,
        workers,
        shard_size,
        data.range,
        data.bands,
    )
