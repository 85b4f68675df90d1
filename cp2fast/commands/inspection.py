"""``bench``, ``preview``, ``probe``, ``embed`` and ``doctor``."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cp2fast import recipes
from cp2fast.commands.app import app, settings_help, split_words
from cp2fast.config import PretrainSettings, ProbeSettings


class Place(StrEnum):
    """What ``probe --place`` takes."""

    backbone = "backbone"
    head = "head"
    embedding = "embedding"


@app.command(
    help="Measure speed on this machine, and name the bottleneck.\n\n"
    "Other ways to do the same are measured beside it, in turns.\n\n"
    "\b\nWHAT:\n"
    "  loader   photos on disk to composed pairs\n"
    "  augment  decoded photos to composed pairs\n"
    "  train    composed pairs to updated weights\n"
    "  run      whole runs beside their parts: what is lost between them\n"
    "  all      one after the other, and which of them limits\n\n"
    "Takes the settings of pretrain, with defaults for batches, threads and scenes of its own; "
    "without data.root: the demo's images.\n\n"
    "\b\nExamples:\n"
    "  cp2fast bench all data.root=DIR --plot bench.png\n"
    "  cp2fast bench loader data.root=DIR --json now.json --against before.json\n"
    "  cp2fast bench train model.backbone=resnet18",
    epilog=settings_help(
        PretrainSettings,
        defaults={
            "data.batch_size": "32; train, run 8, on a GPU 256",
            "data.scenes": "320",
        },
    ),
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
    help="Draw what a network gets, or what it has learned.\n\n"
    "It gets photos, crops, composed pairs: they are shown with all that was drawn. Takes "
    "the settings of pretrain; without arguments: the demo data. With --model, what a network "
    "has learned: where in the key it finds a place of the query.\n\n"
    "\b\nExamples:\n"
    "  cp2fast preview\n"
    "  cp2fast preview r50 data.root=DIR --n 6 --out pairs.png\n"
    "  cp2fast preview --model runs/r50",
    epilog=settings_help(PretrainSettings, "demo"),
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
    recipe, words = split_words(arguments)
    stored = None if model is None else recipes.stored_beside(model)
    settings = recipes.load(PretrainSettings, recipe or stored or "demo", words)

    from cp2fast.inspection.preview import run_preview, run_similarity

    if model is None:
        run_preview(settings, n, out or Path("preview.png"))
    else:
        run_similarity(settings, model, n, out or Path("similarity.png"))


@app.command(
    help="Compare what frozen features are worth, with few labels.\n\n"
    "The nearest neighbours and a linear classifier learn from the features of some labelled "
    "images and are scored by mIoU on others; about a minute a network on two cores.\n\n"
    "WHAT are run folders, checkpoints, files of weights, or random.\n\n"
    "\b\nExamples:\n"
    "  cp2fast probe random runs/small data.root=DIR\n"
    "  cp2fast probe runs/a runs/b data.root=DIR --labels 1 --seeds 1",
    epilog=settings_help(ProbeSettings),
)
def probe(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="WHAT... [KEY=VALUE]", help="Networks, and settings."),
    ] = None,
    labels: Annotated[
        float, typer.Option(help="Share of the labelled images that is learned from.")
    ] = 0.125,
    seeds: Annotated[int, typer.Option(min=1, help="Times that such a share is drawn.")] = 3,
    place: Annotated[
        Place, typer.Option(help="Where the features are taken.", case_sensitive=False)
    ] = Place.backbone,
    out: Annotated[Path, typer.Option(help="New folder for picture and JSON.", metavar="DIR")] = (
        Path("runs/probe")
    ),
) -> None:
    """Parse, then probe."""
    words = arguments or []
    names = [word for word in words if "=" not in word]
    settings = recipes.load(ProbeSettings, None, [word for word in words if "=" in word])

    from cp2fast.probe.command import run_probe

    run_probe(settings, names, labels, seeds, place.value, out)


@app.command(
    help="Write a vector of each photo, and draw which are alike.\n\n"
    "RUN is a run folder or checkpoint of pretraining; PHOTOS a folder, tar or .beton. The vectors "
    "are unit vectors: their products are cosines. FILE is .npz (names, vectors) or .parquet.\n\n"
    "\b\nExample:\n"
    "  cp2fast embed runs/demo PHOTOS --out vectors.npz"
)
def embed(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Network.", show_default=False)],
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Photos.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File of the vectors.", metavar="FILE")],
) -> None:
    """Parse, then embed."""
    from cp2fast.probe.embed import run_embed

    run_embed(run, photos, out)


@app.command(
    help="Test what works here, and how healthy a folder of images is.\n\n"
    "Decodes, composes and trains a few tiny pictures with everything that is installed; names "
    "what is missing and the line that installs it. Exit code 1: pretraining does not work.\n\n"
    "\b\nExamples:\n"
    "  cp2fast doctor\n"
    "  cp2fast doctor r50 data.root=DIR --json doctor.json\n"
    "  cp2fast doctor small data.root=DIR --write my.yaml",
    epilog=settings_help(PretrainSettings),
)
def doctor(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]", help="Recipe and settings."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write everything found as JSON.", metavar="FILE")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write a recipe for pretrain with the range, bands, mean and deviation that suit "
            "the images.",
            metavar="FILE.yaml",
        ),
    ] = None,
) -> None:
    """Parse, then test."""
    recipe, words = split_words(arguments)
    settings = recipes.load(PretrainSettings, recipe, words)

    from cp2fast.inspection.doctor import run_doctor

    if not run_doctor(settings, json, write):
        sys.exit(1)
