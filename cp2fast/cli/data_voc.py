"""``data voc``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

import cp2fast
from cp2fast.cli.app import data_app


@data_app.command(
    help="Arrange PASCAL VOC 2012 and SBD's masks below DIR.\n\n"
    "These are the 10,582 images of train_aug. Downloads what is not there; where "
    "there is no network it says which files to put where. Interrupted, the same "
    "command continues.\n\n"
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
    root, converted, train_aug, val = cp2fast.arrange_voc(folder, print)

    from cp2fast.labels.voc_arrange import TRAIN_AUG

    usual = "" if train_aug == TRAIN_AUG else f", not the usual {TRAIN_AUG:,}"
    print(f"train_aug {train_aug:,} images{usual}; val {val:,}; {converted:,} masks converted")
    print(f"next: cp2fast finetune-voc {quote(f'data.root={root}')} model.init=RUN")
