"""``pack``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import cp2fast
from cp2fast.cli.app import app
from cp2fast.console import open_console
from cp2fast.wording import counted


@app.command(
    help="Pack images into few files, and reduce large ones.\n\n"
    "OUT ends in .beton (FFCV's format) or .tar, or is a folder for tar shards, here or at a URL. "
    "A pack that was stopped continues when the same command is run again.\n\n"
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
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="JPEG quality of reencoded images.")
    ] = 90,
    keep_bytes: Annotated[
        bool, typer.Option("--keep-bytes", help="Copy JPEG files that need no change.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads (default: all cores).")
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Images per shard.")] = 1000,
    values: Annotated[
        str,
        typer.Option(
            "--range",
            help="Values of 16-bit, float and DICOM images that become black and white; see "
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
    console = open_console(stderr=True)
    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    bar = progress.add_task("", total=None)

    def show(done: int, total: int) -> None:
        """Update the bar; it starts with the first image, as earlier errors need no bar."""
        progress.start()
        progress.update(bar, completed=done, total=total)

    try:
        found = cp2fast.pack(
            source,
            out,
            max_side=max_side,
            quality=quality,
            keep_bytes=keep_bytes,
            range=values,
            bands=bands,
            shard_size=shard_size,
            workers=workers,
            progress=show,
        )
    except KeyboardInterrupt:
        console.print("stopped: run the same command to continue")
        raise
    finally:
        progress.live.stop()

    from cp2fast.data.packing.delivery import REJECTS
    from cp2fast.data.remote.urls import public

    print(
        f"{public(out)}: {counted(found.images, 'image')}, {found.bytes_in / 1e6:.1f} MB in, "
        f"{found.bytes_out / 1e6:.1f} MB out, {len(found.rejects)} rejected"
    )
    if found.range_line:
        print(f"{found.range_line}; fine-tune on the images themselves with the same")
    for name, reason in found.rejects[:5]:
        print(f"  {name}: {reason}")
    if found.rejects:
        print(f"all rejected files and why: {public(out).rstrip('/')}.{REJECTS}")
