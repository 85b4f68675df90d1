"""What ``import cp2fast`` offers: a function a task, none of which waits for torch to be imported.

Each takes what the command of the same name takes and leaves the same files; bad input raises
``UserError`` with the line that the command would print.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from cp2fast.batch import CopyPasteBatch
    from cp2fast.config import FinetuneSettings, PretrainSettings
    from cp2fast.data.open_images import ImageBatches
    from cp2fast.finetune.confusion import Scores
    from cp2fast.model.segmenter import Segmenter
    from cp2fast.probe.probe import ProbeScores
    from cp2fast.train.run import Run

_NONE: Mapping[str, object] = MappingProxyType({})


def pretrain(
    settings: PretrainSettings | str | Path | None = None,
    overrides: Mapping[str, object] = _NONE,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    on_row: Callable[[Mapping[str, Any]], None] | None = None,
    quiet: bool = False,
) -> Run[CopyPasteBatch]:
    """Pretrain a segmentation network on photos without labels.

    Under torchrun every process calls this alike, and all train together.

    Args:
        settings: the settings, or a recipe: its name, such as ``"r50"``, or a YAML file. None is
            the demo, or with ``resume`` the run's own.
        overrides: settings by key, such as ``{"data.root": "photos", "train.epochs": 20}``.
        out: run folder; None is ``runs/`` and the recipe's name.
        resume: go on from the newest checkpoint in the folder.
        on_row: called with each row of ``metrics.jsonl`` as it is written, at every
            ``train.log_every``-th step, by the main process; what it raises ends the run.
        quiet: print nothing.

    Returns:
        The run: ``run.folder.path``, ``run.step`` and ``run.is_complete`` (False after Ctrl-C,
        which saves). ``cp2fast.load(run.folder.path)`` gives the network that was trained.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    from cp2fast.config import PretrainSettings
    from cp2fast.pretrain.command import run_pretrain
    from cp2fast.run_settings import run_settings

    chosen, folder = run_settings(
        PretrainSettings, "pretrain", settings, overrides, out=out, resume=resume, default="demo"
    )
    return run_pretrain(chosen, folder, resume, on_row, quiet)


def finetune(
    settings: FinetuneSettings | str | Path | None = None,
    overrides: Mapping[str, object] = _NONE,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    on_row: Callable[[Mapping[str, Any]], None] | None = None,
    quiet: bool = False,
) -> Scores:
    """Fine-tune a network on images with masks, and evaluate it.

    Args:
        settings: the settings, or a recipe: its name, such as ``"voc_r50"``, or a YAML file. None
            is ``voc_r50`` where ``data.root`` is among the overrides, else the demo, or with
            ``resume`` the run's own.
        overrides: settings by key, such as ``{"data.root": "VOC2012", "model.init": "runs/r50"}``.
        out: run folder; None is ``runs/finetune-`` and the recipe's name.
        resume: go on from the newest checkpoint in the folder.
        on_row: see ``pretrain``.
        quiet: print nothing.

    Returns:
        ``miou``, ``pixel_accuracy`` and ``per_class`` (IoU by name) of the last evaluation, each
        from 0 to 1. ``cp2fast.load(out)`` gives the network of the best one.

    Raises:
        UserError: bad input, and nothing was overwritten; or a stop before the end, and it was
            saved.
    """
    from cp2fast.config import FinetuneSettings
    from cp2fast.errors import UserError
    from cp2fast.finetune.command import run_finetune
    from cp2fast.run_settings import run_settings

    chosen, folder = run_settings(
        *(FinetuneSettings, "finetune", settings, overrides),
        out=out,
        resume=resume,
        default="finetune/voc_r50" if "data.root" in overrides else "finetune/demo",
        prefix="finetune-",
    )
    scores = run_finetune(chosen, folder, resume, on_row, quiet)
    if scores is None:
        raise UserError(f"{folder} was stopped before its end and saved: go on with resume=True")
    return scores


def open_images(
    root: str | Path | tuple[str, ...],
    batch_size: int,
    *,
    epochs: int | None = 1,
    start: int = 0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    **data: object,
) -> ImageBatches:
    """Decode the photos of a folder, tar shards or a ``.beton``, a batch at a time.

    The order is a function of (seed, epoch): a loader that is opened again at ``start`` goes on
    with the same batches. From the second epoch on images come from the pixel cache, as far as it
    holds them. Images that cannot be read are logged, and others take their places.

    Args:
        root: the images, nested or flat, or a URL or pattern of them; or several of these.
        batch_size: B, samples a batch and process.
        epochs: passes over the images; None never ends.
        start: batches to leave out at the beginning.
        seed: seed of the order.
        device: where the pixels are to be.
        rank: this process, which gets its share of each step, among ``world_size``.
        world_size: processes that share the images.
        data: the other settings of ``data``, such as ``order="sequential"`` or ``workers=4``. With
            ``background="independent"`` a batch holds 3 B images, see ``RaggedBatch``.

    Returns:
        An iterator of ``RaggedBatch``: uint8 RGB pixels of different sizes in one buffer;
        ``batch.image(0)`` is the first as ``[H, W, 3]``. It knows ``steps_per_epoch``, the
        ``epoch`` of the last batch, and the file ``images.name(number)`` of an image.

    Raises:
        UserError: no images, too few for a batch, a setting that cannot be; while iterating, too
            many images that cannot be read.
    """
    import torch

    from cp2fast import recipes
    from cp2fast.config import DataSettings
    from cp2fast.data.open_images import open_batches

    return open_batches(
        recipes.load(DataSettings, None, {"root": root, "batch_size": batch_size, **data}),
        epochs=epochs,
        start=start,
        seed=seed,
        device=torch.device(device),
        rank=rank,
        world_size=world_size,
    )


def load(path: str | Path) -> Segmenter:
    """A trained network, on the CPU and in eval mode.

    ``network.embed(images)`` gives dense features ``[B, C, ceil(H / stride), ceil(W / stride)]``,
    ``network.backbone`` is a timm model, and after fine-tuning ``network(images)`` gives logits of
    ``network.classes``. Images are RGB in [0, 1], ``[B, 3, H, W]``, less ``network.mean`` and over
    ``network.std`` (ImageNet's, unless the run set others).

    Args:
        path: a run folder (its best checkpoint, else its newest), a checkpoint, or a file that
            ``export(run, "safetensors")`` wrote.

    Raises:
        UserError: there is no such network at ``path``.
    """
    from cp2fast.weights.trained import open_trained

    return open_trained(path).network


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
    """What the frozen features of a network are worth with few labels.

    Args:
        network: to be probed, or what ``load`` takes.
        data: images with masks, in any layout of docs/labels.md.
        labels: share of the labelled images whose labels are learned from, above 0, at most 1.
        seeds: each draws such a share of its own.
        place: where the features are taken.
        short_side: short side of the images, pixels.
        device: None is the GPU where there is one.

    Returns:
        For each seed ``knn`` and ``linear``: the ``Scores`` (``miou``, ``pixel_accuracy``,
        ``per_class``) of the nearest neighbours and of a linear classifier on other images.

    Raises:
        UserError: no such network, or images and masks that cannot be used.
    """
    import copy

    import torch

    from cp2fast.config import ProbeDataSettings
    from cp2fast.errors import UserError
    from cp2fast.labels.open import open_labelled
    from cp2fast.probe.probe import probe as probe_network
    from cp2fast.train.distributed import device_of, ranks_from_environment

    if not 0 < labels <= 1:
        raise UserError(f"labels={labels:g}: name a share above 0, at most 1")
    place_of_work = torch.device(device) if device else device_of("auto", ranks_from_environment())
    # The probe takes batch statistics of its own: into a copy, where the network is the caller's.
    probed = load(network) if isinstance(network, str | Path) else copy.deepcopy(network).eval()
    return probe_network(
        probed.to(place_of_work),
        open_labelled(ProbeDataSettings(), Path(data)),
        labels=labels,
        seeds=seeds,
        short_side=short_side,
        place=place,
        device=place_of_work,
    )


def export(
    run: str | Path,
    to: Literal["timm", "torchvision", "mmseg", "safetensors", "onnx"],
    out: str | Path | None = None,
) -> Path:
    """Write a network's weights for another library, have it read them back, and add a model card.

    Args:
        run: a run folder, a checkpoint or a ``.safetensors`` file of this function.
        to: the library, or the format for ``load`` and for ONNX.
        out: the file; None is ``weights/export/BACKBONE_stepSTEP_FORMAT.*`` in the run folder.

    Returns:
        The file.

    Raises:
        UserError: bad input, a file in the way, or one that reads back otherwise; nothing was
            overwritten or left behind.
    """
    from cp2fast.weights.export.command import run_export

    return run_export(Path(run), to, None if out is None else Path(out), quiet=True)
