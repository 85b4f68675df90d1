"""``data check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cp2fast
from cp2fast import recipes
from cp2fast.cli.app import SettingsOnly, data_app, settings_help
from cp2fast.config import FinetuneSettings, LabelSettings
from cp2fast.console import open_console


@data_app.command(
    help="Show how images with masks are read, before training on them.\n\n"
    "ROOT is a folder in VOC layout or of images and masks, a CSV of pairs, or COCO's JSON. "
    "Prints the layout, the classes with their shares of the pixels and what looks wrong, and "
    "draws eight images with their masks. Takes the data settings of finetune-voc.\n\n"
    "\b\nExamples:\n"
    "  cp2fast data check DIR\n"
    "  cp2fast data check DIR data.masks={dir}/../labels/{stem}_mask.png",
    epilog=settings_help(LabelSettings, prefix="data."),
)
def check(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The data set.", show_default=False)],
    arguments: SettingsOnly = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture (default data-check.png here).", metavar="FILE.png"),
    ] = None,
) -> None:
    """Parse, then look."""
    settings = recipes.load(FinetuneSettings, None, arguments or [])
    found = cp2fast.check_data(root, settings, out=out)

    from cp2fast.inspection.labels import SHOWN
    from cp2fast.labels.survey import shares_in_words

    console = open_console()
    console.print(f"{root}: {found.data.said}")
    for line in [*shares_in_words(found.survey, found.data), *found.survey.warnings]:
        console.print(line)
    shown = min(SHOWN, len(found.data.train) + len(found.data.val))
    console.print(f"wrote {found.picture}: {shown} images and their masks")
