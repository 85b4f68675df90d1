"""``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cp2fast
from cp2fast.cli.app import app
from cp2fast.console import open_console


@app.command(
    help="Write a network's weights for another library.\n\n"
    "The file is read back by that library, and a model card is written beside it. RUN is a run "
    "folder, a checkpoint or an exported .safetensors file.\n\n"
    "\b\nFORMAT:\n"
    "  timm         backbone, .safetensors (or .pth)\n"
    "  torchvision  backbone, .pth (or .safetensors)\n"
    "  mmseg        whole network, .pth\n"
    "  safetensors  whole network, for cp2fast.load\n"
    "  onnx         whole network, images of any number and size\n\n"
    "\b\nExamples:\n"
    "  cp2fast export runs/r50 --to timm\n"
    "  cp2fast export runs/r50 --to onnx --out r50.onnx"
)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The network.", show_default=False)],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="The library.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The file (default RUN/export/...).", metavar="FILE")
    ] = None,
) -> None:
    """Parse, then export."""
    cp2fast.export(run, to, out, say=open_console().print)  # type: ignore[arg-type]
