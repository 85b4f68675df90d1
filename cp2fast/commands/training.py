"""``pretrain``, ``finetune-voc`` and ``predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cp2fast import recipes
from cp2fast.commands.app import app, settings_help, split_words
from cp2fast.config import FinetuneSettings, PretrainSettings, check_finetune, check_pretrain
from cp2fast.errors import UserError
from cp2fast.run_settings import run_settings


@app.command(
    help="Pretrain a network. Without arguments: the demo, a few minutes on two CPU cores.\n\n"
    f"CONFIG is a recipe ({', '.join(recipes.names(PretrainSettings))}) or a YAML file.\n\n"
    "\b\nExamples:\n"
    "  cp2fast pretrain\n"
    "  cp2fast pretrain r50 data.root=DIR\n"
    "  cp2fast pretrain --resume --out runs/r50",
    epilog=settings_help(PretrainSettings, "demo"),
)
def pretrain(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]", help="Recipe and settings."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder (default runs/RECIPE).", metavar="DIR")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run folder's newest checkpoint.")
    ] = False,
) -> None:
    """Parse, then train."""
    recipe, words = split_words(arguments)
    settings, folder = run_settings(
        PretrainSettings, "pretrain", recipe, words, out=out, resume=resume, default="demo"
    )
    check_pretrain(settings)

    # Imported here: torch takes seconds, which --help and a mistyped key need not wait for.
    from cp2fast.pretrain.command import run_pretrain

    run_pretrain(settings, folder, resume)


@app.command(
    name="finetune-voc",
    help="Fine-tune a network on images with masks, and evaluate it.\n\n"
    "Images and masks may lie in any of the usual ways: cp2fast data check DIR shows what is "
    "found. Without arguments: the demo, from the weights of cp2fast pretrain where that was "
    "run.\n\n"
    f"CONFIG is a recipe ({', '.join(recipes.names(FinetuneSettings))}) or a YAML file; with "
    "data.root the default is finetune/voc_r50.\n\n"
    "\b\nExamples:\n"
    "  cp2fast pretrain && cp2fast finetune-voc\n"
    "  cp2fast finetune-voc voc_r50 data.root=VOCdevkit/VOC2012 model.init=runs/r50\n"
    "  cp2fast finetune-voc data.root=DIR --compare random,runs/r50 --seeds 0,1,2",
    epilog=settings_help(FinetuneSettings, "finetune/demo"),
)
def finetune_voc(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]", help="Recipe and settings."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder (default runs/finetune-RECIPE).", metavar="DIR")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run folder's newest checkpoint.")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Fine-tune each of these starts under the same budget and print a table; the "
            "same command goes on with a comparison that was stopped.",
            metavar="random,imagenet,RUN,...",
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Seeds of each start of a comparison.", metavar="0,1,...")
    ] = "0,1,2",
) -> None:
    """Parse, then train."""
    recipe, words = split_words(arguments)
    own_data = any(word.startswith("data.root=") for word in words)
    settings, folder = run_settings(
        *(FinetuneSettings, "finetune", recipe, words),
        out=out,
        resume=resume,
        default="finetune/voc_r50" if own_data else "finetune/demo",
        prefix="finetune-" if compare is None else "compare-",
    )
    check_finetune(settings)

    if compare is not None:
        from cp2fast.finetune.compare import run_compare

        run_compare(settings, folder, compare.split(","), _whole_numbers("--seeds", seeds))
        return

    from cp2fast.finetune.command import run_finetune

    run_finetune(settings, folder, resume)


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} {text}: name whole numbers, as in {option} 0,1,2") from error


@app.command(
    help="Segment photos: a palette PNG and an overlay of each.\n\n"
    "MODEL is a fine-tuning's run folder or checkpoint; IMAGES are files and folders, whose "
    "shape is kept. Each photo is segmented at its own size.\n\n"
    "\b\nExamples:\n"
    "  cp2fast predict runs/finetune-demo photos --out masks\n"
    "  cp2fast predict runs/aerial aerial.tif --tile 1024 --out masks"
)
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="What to predict with.", show_default=False)
    ],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES", help="Photos, or folders of them.", show_default=False),
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

    run_predict(model, images, out, probabilities, tile)
