"""``pack``, ``data voc`` and ``data check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cp2fast import recipes
from cp2fast.commands.app import app, settings_help
from cp2fast.config import FinetuneSettings, LabelSettings, PretrainSettings


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


data_app = typer.Typer(help="Arrange and check data sets.", rich_markup_mode=None)
app.add_typer(data_app, name="data")


@data_app.callback()
def _data() -> None:
    """Its commands are below."""


@data_app.command(
    help="Arrange PASCAL VOC 2012 and SBD's masks below DIR.\n\n"
    "These are the 10,582 images of train_aug. Downloads what is not there; where "
    "there is no network it says which files to put where. Interrupted, the same "
    "command goes on.\n\n"
    "\b\nExample:\n"
    "  cp2fast data voc data\n"
    "  cp2fast finetune-voc data.root=data/VOCdevkit/VOC2012 model.init=runs/r50"
)
def voc(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where VOCdevkit goes.", show_default=False)
    ],
) -> None:
    """Parse, then arrange."""
    from cp2fast.labels.voc_arrange import TRAIN_AUG, arrange_voc

    root, converted, train_aug, val = arrange_voc(folder, print)
    usual = "" if train_aug == TRAIN_AUG else f", not the usual {TRAIN_AUG:,}"
    print(f"train_aug {train_aug:,} images{usual}; val {val:,}; {converted:,} masks converted")
    print(f"next: cp2fast finetune-voc data.root={root} model.init=RUN")


@data_app.command(
    help="Show what images with masks are taken for, before training on them.\n\n"
    "ROOT is a folder in VOC layout or of images and masks, a CSV of pairs, or COCO's JSON. "
    "It says the layout, the classes with their shares of the pixels and what looks wrong, and "
    "draws eight images with their masks. Takes the data settings of finetune-voc.\n\n"
    "\b\nExamples:\n"
    "  cp2fast data check DIR\n"
    "  cp2fast data check DIR data.masks={dir}/../labels/{stem}_mask.png --out masks.png",
    epilog=settings_help(LabelSettings, prefix="data."),
)
def check(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The data set.", show_default=False)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]", help="Settings.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture (default data-check.png here).", metavar="FILE.png"),
    ] = None,
) -> None:
    """Parse, then look."""
    settings = recipes.load(FinetuneSettings, None, arguments or []).data

    from cp2fast.inspection.labels import run_data_check

    run_data_check(settings, root, out)
