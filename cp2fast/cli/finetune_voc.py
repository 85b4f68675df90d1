"""``finetune-voc``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cp2fast import recipes
from cp2fast.cli.app import RecipeAndSettings, Resume, app, settings_help, split_words
from cp2fast.config import FinetuneSettings
from cp2fast.errors import UserError
from cp2fast.run_settings import finetune_settings


@app.command(
    name="finetune-voc",
    help="Fine-tune a network on images with masks, and evaluate it.\n\n"
    "Images and masks may lie in any of the usual ways: cp2fast data check DIR shows what is "
    "found. Without arguments: the demo, from the weights of cp2fast pretrain where that was "
    "run.\n\n"
    f"RECIPE is the name of a recipe ({', '.join(recipes.names(FinetuneSettings))}) or a YAML "
    "file; with data.root the default is finetune/voc_r50.\n\n"
    "\b\nExamples:\n"
    "  cp2fast pretrain && cp2fast finetune-voc\n"
    "  cp2fast finetune-voc voc_r50 data.root=VOCdevkit/VOC2012 model.init=runs/r50\n"
    "  cp2fast finetune-voc data.root=DIR --compare random,runs/r50 --seeds 0,1,2",
    epilog=settings_help(FinetuneSettings, "finetune/demo"),
)
def finetune_voc(
    arguments: RecipeAndSettings = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder (default runs/finetune-RECIPE).", metavar="DIR")
    ] = None,
    resume: Resume = False,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Fine-tune each of these starts under the same budget and print a table; the "
            "same command continues a comparison that was stopped.",
            metavar="random,imagenet,RUN,...",
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Seeds of each start of a comparison.", metavar="0,1,...")
    ] = "0,1,2",
) -> None:
    """Parse, then train."""
    recipe, words = split_words(arguments)
    if compare is not None:
        settings, folder = finetune_settings(recipe, words, out=out, prefix="compare-")

        from cp2fast.finetune.compare import run_compare

        run_compare(settings, folder, compare.split(","), _whole_numbers("--seeds", seeds))
        return
    settings, folder = finetune_settings(recipe, words, out=out, resume=resume)

    from cp2fast.finetune.build import FINETUNE
    from cp2fast.train.session import run_task

    run_task(FINETUNE, settings, folder, resume)


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} {text}: name whole numbers, as in {option} 0,1,2") from error
