"""Public functions that check their settings before they import torch, which takes seconds.

Each takes the same arguments as the command of its name and writes the same files. Bad input raises
``UserError`` with the message that the command would print. The other public functions lie in the
packages of their tasks; ``cp2fast/__init__.py`` lists all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from cp2fast.config import FinetuneSettings, PretrainSettings
    from cp2fast.data.packing.pack import PackSummary
    from cp2fast.finetune.compare import Comparison
    from cp2fast.finetune.evaluate import Scores
    from cp2fast.model.segmenter import Segmenter
    from cp2fast.pretrain.task import PretrainTask
    from cp2fast.probe.probe import ProbeScores
    from cp2fast.recipes import Overrides
    from cp2fast.train.run import Run


def pretrain(
    settings: PretrainSettings | str | Path | None = None,
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
    resume: bool = False,
    on_row: Callable[[Mapping[str, Any]], None] | None = None,
    quiet: bool = False,
) -> Run[PretrainTask]:
    """Pretrain a segmentation network on photos without labels.

    Under torchrun every process makes the same call, and all train together.

    Args:
        settings: a settings object, or a recipe: its name, such as ``"r50"``, or a YAML file. None
            is the demo, or with ``resume`` the settings of the run in ``out``.
        overrides: settings by key, such as ``{"data.root": "photos", "train.epochs": 20}``.
        out: run folder; None is ``runs/`` followed by the recipe's name.
        resume: continue from the newest checkpoint in the folder.
        on_row: called in the main process with each row written to ``metrics.jsonl``, every
            ``train.log_every`` steps; an exception that it raises ends the run.
        quiet: print nothing.

    Returns:
        The run, with ``run.folder.path``, ``run.step`` and ``run.is_complete`` (False after Ctrl-C,
        which saves first). ``cp2fast.load(run.folder.path)`` gives the trained network.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    from cp2fast.run_settings import pretrain_settings

    chosen, folder = pretrain_settings(settings, overrides, out=out, resume=resume)

    # Imported here, because torch takes seconds, which a mistyped key need not wait for.
    from cp2fast.pretrain.build import PRETRAIN
    from cp2fast.train.session import run_task

    return run_task(PRETRAIN, chosen, folder, resume, on_row, quiet)


def finetune(
    settings: FinetuneSettings | str | Path | None = None,
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
    resume: bool = False,
    on_row: Callable[[Mapping[str, Any]], None] | None = None,
    quiet: bool = False,
) -> Scores:
    """Fine-tune a network on images with masks, and evaluate it.

    Args:
        settings: a settings object, or a recipe: its name, such as ``"voc_r50"``, or a YAML file.
            None is ``voc_r50`` if ``data.root`` is among the overrides, else the demo, or with
            ``resume`` the settings of the run in ``out``.
        overrides: settings by key, such as ``{"data.root": "VOC2012", "model.init": "runs/r50"}``.
        out: run folder; None is ``runs/finetune-`` followed by the recipe's name.
        resume: continue from the newest checkpoint in the folder.
        on_row: see ``pretrain``.
        quiet: print nothing.

    Returns:
        ``miou``, ``pixel_accuracy`` and ``per_class`` (IoU by name) of the last evaluation, each
        from 0 to 1. ``cp2fast.load(out)`` gives the network of the best evaluation.

    Raises:
        UserError: bad input (nothing was overwritten), or the run was stopped before its end (its
            state was saved).
    """
    from cp2fast.errors import UserError
    from cp2fast.run_settings import finetune_settings

    chosen, folder = finetune_settings(settings, overrides, out=out, resume=resume)

    from cp2fast.finetune.build import FINETUNE
    from cp2fast.finetune.result import scores_of
    from cp2fast.train.session import run_task

    run = run_task(FINETUNE, chosen, folder, resume, on_row, quiet)
    if not run.is_complete:
        raise UserError(f"{folder} was stopped before its end and saved: continue with resume=True")
    return scores_of(run)


def compare(
    starts: Sequence[str],
    settings: FinetuneSettings | str | Path | None = None,
    overrides: Overrides = (),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    out: str | Path | None = None,
    quiet: bool = False,
) -> Comparison:
    """Fine-tune from several starts under one budget; a repeated call goes on where one stopped.

    Args:
        starts: ``random``, ``imagenet``, or any other value of ``model.init``.
        settings: as for ``finetune``; ``model.init`` and ``train.seed`` are set by the comparison.
        overrides: settings by key.
        seeds: seeds of each start.
        out: folder of ``compare.json`` and of one run per trial; None is ``runs/compare-`` followed
            by the recipe's name.
        quiet: print nothing.

    Returns:
        ``miou`` by start and seed, with ``mean(start)`` and ``deviation(start)``.

    Raises:
        UserError: bad input (nothing was overwritten), or the comparison was stopped before its end
            (its state was saved).
    """
    from cp2fast.errors import UserError
    from cp2fast.run_settings import finetune_settings

    chosen, folder = finetune_settings(settings, overrides, out=out, prefix="compare-")

    from cp2fast.finetune.compare import run_compare

    found = run_compare(chosen, folder, starts, seeds, quiet)
    if found is None:
        raise UserError(
            f"{folder} was stopped before its end and saved: repeat the call to continue"
        )
    return found


def pack(
    source: str | Path | Sequence[str],
    out: str | Path,
    *,
    max_side: int | None = None,
    quality: int = 90,
    keep_bytes: bool = False,
    shard_size: int = 1000,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **data: object,
) -> PackSummary:
    """Pack images into few files, or continue a pack that was stopped.

    Args:
        source: anything that ``data.root`` may be.
        out: a path or URL that ends in ``.beton`` or ``.tar``, or is a folder of shards.
        max_side: images with a longer side are reduced to it, in pixels; None keeps every size.
        quality: quality of JPEG that is encoded anew, 1 to 100.
        keep_bytes: keep the bytes of a JPEG that needs no change.
        shard_size: images per shard, if ``out`` is a folder.
        workers: threads; None is one per core.
        progress: called with the number of images done and their total.
        data: other settings of ``data``: ``range=(0, 4095)`` and ``bands=(4, 3, 2)`` choose what
            becomes 8-bit RGB.

    Returns:
        How many ``images`` were packed, ``bytes_in`` and ``bytes_out``, and in ``rejects`` the name
        of each image that cannot be read, with the reason.

    Raises:
        UserError: bad input, ``out`` exists or was started with other settings, no image can be
            packed, or the disk is full.
    """
    from cp2fast import recipes
    from cp2fast.config import PretrainSettings
    from cp2fast.cores import available_cores
    from cp2fast.data.packing.pack import pack as pack_images
    from cp2fast.data.packing.packed_jpeg import JpegSettings
    from cp2fast.errors import UserError

    for name, number in (("max_side", max_side), ("shard_size", shard_size), ("workers", workers)):
        if number is not None and number < 1:
            raise UserError(f"{name}={number}: must be 1 or more")
    if not 1 <= quality <= 100:
        raise UserError(f"quality={quality}: must be 1 to 100")
    named = {f"data.{name}": value for name, value in {"root": source, **data}.items()}
    chosen = recipes.load(PretrainSettings, None, named).data
    if not chosen.root:
        raise UserError("SRC is empty: name what holds the images")
    jpeg = JpegSettings(
        max_side, quality, keep_bytes, chosen.max_pixels, chosen.range, chosen.bands
    )
    return pack_images(
        chosen.root,
        out,
        jpeg,
        shard_size=shard_size,
        workers=workers or available_cores(),
        progress=progress,
    )


def probe(
    network: Segmenter | str | Path,
    data: str | Path,
    *,
    labels: float = 0.125,
    seeds: Sequence[int] = (0, 1, 2),
    place: Literal["backbone", "head", "embedding"] = "backbone",
    short_side: int = 240,
    device: torch.device | str | None = None,
) -> list[ProbeScores]:
    """Measure how good the frozen features of a network are when few labels are available.

    Args:
        network: a network, or what ``load`` takes.
        data: images with masks, in any layout of docs/labels.md.
        labels: share of the labelled images whose labels are used, above 0, at most 1.
        seeds: each draws its own share of the images.
        place: layer whose features are used.
        short_side: short side of the images, pixels.
        device: None is the GPU if there is one.

    Returns:
        For each seed, ``knn`` and ``linear``: the ``Scores`` (``miou``, ``pixel_accuracy``,
        ``per_class``) of nearest neighbours and of a linear classifier on the other images.

    Raises:
        UserError: no such network, or unusable images or masks.
    """
    import copy

    from cp2fast.config import ProbeDataSettings
    from cp2fast.cores import device_named
    from cp2fast.errors import UserError
    from cp2fast.files import path_of
    from cp2fast.labels.open import open_labelled
    from cp2fast.probe.features import Extractor, check_place
    from cp2fast.probe.probe import probe as probe_network
    from cp2fast.train.distributed import device_of, ranks_from_environment
    from cp2fast.weights.trained import load

    if not 0 < labels <= 1:
        raise UserError(f"labels={labels:g}: must be above 0 and at most 1")
    if len(seeds) < 1:
        raise UserError("seeds is empty: name one or more")
    check_place(place)
    if short_side < 1:
        raise UserError(f"short_side={short_side}: must be at least 1 pixel")
    place_of_work = device_named(device) if device else device_of("auto", ranks_from_environment())
    # The probe replaces batch statistics, so work on a copy if the network is the caller's.
    probed = load(network) if isinstance(network, str | Path) else copy.deepcopy(network).eval()
    extractor = Extractor(probed.to(place_of_work), place, short_side)
    images = open_labelled(ProbeDataSettings(), path_of(data))
    return probe_network(extractor, images, labels=labels, seeds=seeds)
