"""The commands: parse, build, call; no logic."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cp2fast import __version__, recipes
from cp2fast.config import (
    FinetuneSettings,
    PretrainSettings,
    Section,
    check_finetune,
    check_pretrain,
)
from cp2fast.errors import UserError

app = typer.Typer(
    name="cp2fast",
    help="Pretrain whole segmentation networks on unlabelled photos by copy-paste contrast (CP2).",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Base of the errors of the command line itself; typer does not export it."""


def main() -> None:
    """Run the command line; 0 done, 2 bad input, 1 anything else."""
    # Read when torch is first imported. Threads that spin while they wait for each other take the
    # cores from those that decode and compose: on two busy cores a step took twice as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Likewise: batches in large pages, whose first touch costs a quarter of that of small ones.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        app(standalone_mode=False)
    except UserError as error:
        sys.exit(_refuse(str(error)))
    except _UsageError as error:
        sys.exit(_refuse(f"{error}; see cp2fast --help"))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(1)


def _refuse(message: str) -> int:
    print(f"cp2fast: {message}", file=sys.stderr)
    return 2


def _settings_help(kind: type[Section]) -> str:
    """All settings as an unwrapped block of the help text."""
    lines = ["\b", "Settings, as KEY=VALUE:"]
    for setting in recipes.describe(kind):
        lines += [
            f"  {setting.key}  ({setting.values}; default {setting.default})",
            f"      {setting.help}",
        ]
    return "\n".join(lines)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"cp2fast {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command(
    help="Pretrain a network. Without arguments: the demo, a few minutes on two CPU cores.\n\n"
    f"CONFIG is a recipe ({', '.join(recipes.names(PretrainSettings))}) or a YAML file.\n\n"
    "\b\nExamples:\n"
    "  cp2fast pretrain\n"
    "  cp2fast pretrain r50 data.root=DIR\n"
    "  cp2fast pretrain --resume --out runs/r50",
    epilog=_settings_help(PretrainSettings),
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
    words = arguments or []
    recipe = words.pop(0) if words and "=" not in words[0] else None
    folder = out or Path("runs") / Path(recipe or "demo").stem
    stored = folder / "config.yaml"
    base = str(stored) if resume and recipe is None and stored.is_file() else recipe or "demo"
    settings = recipes.load(PretrainSettings, base, words)
    check_pretrain(settings)

    # Imported here: torch takes seconds, which --help and a mistyped key need not wait for.
    from cp2fast.train.command import run_pretrain

    run_pretrain(settings, folder, resume)


@app.command(
    help="Pack a folder of images or tar shards: smaller images, in few files.\n\n"
    "OUT ends in .beton (FFCV's format) or .tar, or is a folder for tar shards. A pack that was "
    "stopped goes on when the same command is given again.\n\n"
    "\b\nExamples:\n"
    "  cp2fast pack photos photos.beton --max-side 512\n"
    "  cp2fast pack photos shards/ --keep-bytes"
)
def pack(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder, .tar, or .beton.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="FILE.beton, FILE.tar, or a folder.")],
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
) -> None:
    """Parse, then pack."""
    from cp2fast.data.pack_command import run_pack

    run_pack(source, out, max_side, quality, keep_bytes, workers, shard_size)


@app.command(
    name="finetune-voc",
    help="Fine-tune a pretrained network on images with masks in VOC layout, and evaluate it.\n\n"
    "Without arguments: the demo, from the weights of cp2fast pretrain where that was run.\n\n"
    f"CONFIG is a recipe ({', '.join(recipes.names(FinetuneSettings))}) or a YAML file; with "
    "data.root the default is finetune/voc_r50.\n\n"
    "\b\nExamples:\n"
    "  cp2fast pretrain && cp2fast finetune-voc\n"
    "  cp2fast finetune-voc voc_r50 data.root=VOCdevkit/VOC2012 model.init=runs/r50\n"
    "  cp2fast finetune-voc data.root=DIR --compare random,runs/r50 --seeds 0,1,2",
    epilog=_settings_help(FinetuneSettings),
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
    words = arguments or []
    recipe = words.pop(0) if words and "=" not in words[0] else None
    own_data = any(word.startswith("data.root=") for word in words)
    default = "finetune/voc_r50" if own_data else "finetune/demo"
    kind = "finetune" if compare is None else "compare"
    folder = out or Path("runs") / f"{kind}-{Path(recipe or default).stem}"
    stored = folder / "config.yaml"
    base = str(stored) if resume and recipe is None and stored.is_file() else recipe or default
    settings = recipes.load(FinetuneSettings, base, words)
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
    help="Write a network's weights for another library, checked there, with a model card.\n\n"
    "RUN is a run folder, a checkpoint or an exported .safetensors file.\n\n"
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
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What to export.", show_default=False)],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="The library.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The file (default RUN/export/...).", metavar="FILE")
    ] = None,
) -> None:
    """Parse, then export."""
    from cp2fast.export.command import run_export

    run_export(run, to, out)


@app.command(
    help="Measure on this machine, beside other ways to do the same, and name the bottleneck.\n\n"
    "\b\nWHAT:\n"
    "  loader   photos on disk to composed pairs\n"
    "  augment  decoded photos to composed pairs\n"
    "  train    composed pairs to updated weights\n"
    "  all      one after the other, and which of them limits\n\n"
    "Takes the settings of pretrain; without data.root: the demo's images. Here data.workers is "
    "by default the number of cores, data.batch_size 32, and for train 8 or, on a GPU, 256.\n\n"
    "\b\nExamples:\n"
    "  cp2fast bench all data.root=DIR --plot bench.png\n"
    "  cp2fast bench loader data.root=DIR --json now.json --against before.json\n"
    "  cp2fast bench train model.backbone=resnet18",
    epilog=_settings_help(PretrainSettings),
)
def bench(
    what: Annotated[str, typer.Argument(metavar="[WHAT]", help="What to measure.")] = "all",
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]", help="Settings.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which all take turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=0, help="Of each system in each round.")] = 4.0,
    beton: Annotated[
        Path | None,
        typer.Option(help="The same photos packed, to measure FFCV too.", metavar="FILE"),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Keep the result.", metavar="FILE")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the chart.", metavar="FILE")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with a kept result.", metavar="FILE")
    ] = None,
) -> None:
    """Parse, then measure."""
    words = arguments or []
    if "=" in what:
        what, words = "all", [what, *words]
    recipes.load(PretrainSettings, None, words)

    from cp2fast.bench.command import Options, run_bench

    run_bench(what, words, Options(rounds, seconds, beton, json, plot, against))


@app.command(
    help="Draw what the network gets: photos, crops, composed pairs, and all that was drawn.\n\n"
    "Takes the settings of pretrain; without arguments: the demo data. With --model, draw what a "
    "network has learned instead: where in the key it finds a place of the query.\n\n"
    "\b\nExamples:\n"
    "  cp2fast preview\n"
    "  cp2fast preview r50 data.root=DIR --n 6 --out pairs.png\n"
    "  cp2fast preview --model runs/r50",
    epilog=_settings_help(PretrainSettings),
)
def preview(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]", help="Recipe and settings."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Run folder, checkpoint or weights to look into.", metavar="PATH"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="PNG or WebP (default preview.png or similarity.png).", metavar="FILE"),
    ] = None,
    n: Annotated[int, typer.Option(min=1, max=32, help="Pairs to draw.")] = 4,
) -> None:
    """Parse, then draw."""
    words = arguments or []
    recipe = words.pop(0) if words and "=" not in words[0] else None
    stored = None if model is None else recipes.stored_beside(model)
    settings = recipes.load(PretrainSettings, recipe or stored or "demo", words)

    from cp2fast.inspection.preview import run_preview, run_similarity

    if model is None:
        run_preview(settings, n, out or Path("preview.png"))
    else:
        run_similarity(settings, model, n, out or Path("similarity.png"))


@app.command(
    help="Test what works here, and how healthy a folder of images is.\n\n"
    "Decodes, composes and trains a few tiny pictures with everything that is installed; names "
    "what is missing and the line that installs it. Exit code 1: pretraining does not work.\n\n"
    "\b\nExamples:\n"
    "  cp2fast doctor\n"
    "  cp2fast doctor r50 data.root=DIR --json doctor.json",
    epilog=_settings_help(PretrainSettings),
)
def doctor(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]", help="Recipe and settings."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write everything found as JSON.", metavar="FILE")
    ] = None,
) -> None:
    """Parse, then test."""
    words = arguments or []
    recipe = words.pop(0) if words and "=" not in words[0] else None
    settings = recipes.load(PretrainSettings, recipe, words)

    from cp2fast.inspection.doctor import run_doctor

    if not run_doctor(settings, json):
        sys.exit(1)


@app.command(
    help="Segment photos: a palette PNG and an overlay of each, at its own size.\n\n"
    "MODEL is a fine-tuning's run folder or checkpoint; IMAGES are files and folders.\n\n"
    "\b\nExample:\n"
    "  cp2fast predict runs/finetune-demo photos --out masks"
)
def predict(
    model: Annotated[Path, typer.Argument(help="What to predict with.", show_default=False)],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the masks.", metavar="DIR")],
) -> None:
    """Parse, then predict."""
    from cp2fast.finetune.predict import run_predict

    run_predict(model, images, out)


data_app = typer.Typer(help="Arrange data sets.", rich_markup_mode=None)
app.add_typer(data_app, name="data")


@data_app.callback()
def _data() -> None:
    """Each data set has a command of its own."""


@data_app.command(
    help="Arrange PASCAL VOC 2012 and SBD's masks below DIR: the 10,582 images of train_aug.\n\n"
    "Downloads what is not there; where there is no network it says which files to put "
    "where. Interrupted, the same command goes on.\n\n"
    "\b\nExample:\n"
    "  cp2fast data voc data\n"
    "  cp2fast finetune-voc data.root=data/VOCdevkit/VOC2012 model.init=runs/r50"
)
def voc(folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)]) -> None:
    """Parse, then arrange."""
    from cp2fast.data.voc_arrange import TRAIN_AUG, arrange_voc

    root, converted, train_aug, val = arrange_voc(folder, print)
    usual = "" if train_aug == TRAIN_AUG else f", not the usual {TRAIN_AUG:,}"
    print(f"train_aug {train_aug:,} images{usual}; val {val:,}; {converted:,} masks converted")
    print(f"next: cp2fast finetune-voc data.root={root} model.init=RUN")
