"""A fine-tuning run: what it consists of, how it begins, and how it goes on from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.optim import Optimizer

from cp2fast import __version__, recipes
from cp2fast.config import FinetuneSettings, check_finetune
from cp2fast.data.demo import data_root
from cp2fast.data.order import steps_per_epoch
from cp2fast.data.voc import VocData, check_masks, open_voc
from cp2fast.errors import UserError
from cp2fast.finetune.start import build_network, load_start, resolve
from cp2fast.model.segmenter import Segmenter
from cp2fast.pretrain.run import check_same_run
from cp2fast.run_folder import RunFolder, atomic_write
from cp2fast.train.checkpoint import load_checkpoint, newest_intact, save_checkpoint
from cp2fast.train.distributed import Ranks
from cp2fast.train.loggers import check_loggers
from cp2fast.train.optimizer import build_optimizer, restore_optimizer

KIND = "finetune"
"""What a checkpoint's ``kind`` says."""

_FIXED = (
    "model.",
    "data.batch_size",
    "data.train_split",
    "data.classes",
    "train.seed",
    "train.optimizer",
)
"""A run cannot be continued with other values of these."""


@dataclass
class FinetuneRun:
    """Everything a step touches; ``step`` counts the steps done."""

    settings: FinetuneSettings
    folder: RunFolder
    data: VocData
    device: torch.device
    ranks: Ranks
    network: Segmenter
    optimizer: Optimizer
    step: int = 0

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        return self.settings.train.steps


def begin(
    settings: FinetuneSettings,
    folder: RunFolder,
    device: torch.device,
    ranks: Ranks,
    console: Console,
) -> FinetuneRun:
    """Build a new run; its folder is made last, when nothing else can fail.

    Raises:
        UserError: bad input; nothing was written but the demo data.
    """
    if ranks.is_main:
        folder.refuse_unless_new()
    run = _build(settings, folder, device, ranks)
    for warning in check_masks(run.data):
        console.print(warning)
    console.print(load_start(run.network, run.settings.model))
    if ranks.is_main:
        folder.create(recipes.to_yaml(run.settings))
    return run


def resume(
    settings: FinetuneSettings,
    folder: RunFolder,
    device: torch.device,
    ranks: Ranks,
    console: Console,
) -> FinetuneRun:
    """Build the run that ``folder`` holds, as it was at its newest checkpoint, or at its start.

    Raises:
        UserError: there is none, or ``settings`` belong to another run.
    """
    if folder.holds_run:
        settings = resolve(settings)
    check_same_run(settings, folder, _FIXED)
    newest = newest_intact(folder.checkpoints, console.print)
    checkpoint = None if newest is None else load_checkpoint(newest)
    run = _build(settings, folder, device, ranks)
    if checkpoint is None:
        console.print(load_start(run.network, run.settings.model))
    else:
        _restore(run, checkpoint)
    if run.step > run.total_steps:
        raise UserError(
            f"{folder.path} is at step {run.step}, beyond train.steps={run.total_steps}: give it "
            "more, or start another run with --out DIR"
        )
    if ranks.is_main and run.step < run.total_steps:
        folder.truncate_metrics(run.step)
        with atomic_write(folder.config) as file:
            file.write(recipes.to_yaml(run.settings).encode())
    return run


def save(run: FinetuneRun) -> None:
    """Write a checkpoint from which the run goes on bit for bit; only the main process does."""
    if not run.ranks.is_main:
        return
    state = {
        "kind": KIND,
        "model": run.network.state_dict(),
        "classes": list(run.data.classes),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "images": len(run.data.train),
        "settings": run.settings.model_dump(mode="json"),
        "versions": {"cp2fast": __version__, "torch": str(torch.__version__)},
    }
    save_checkpoint(run.folder.checkpoints, run.step, state, run.settings.train.checkpoint_keep)


def _build(
    settings: FinetuneSettings, folder: RunFolder, device: torch.device, ranks: Ranks
) -> FinetuneRun:
    check_finetune(settings)
    check_loggers(settings.train.log)
    settings = resolve(settings)
    root = data_root(settings.data)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"root": root})})
    data = open_voc(settings.data, root)
    crops = settings.data.batch_size * ranks.world
    fewest = 1 if settings.model.head == "fcn" else 2  # ASPP normalises one value a channel
    steps_per_epoch(len(data.train), crops, fewest)
    if crops < fewest:
        raise UserError(
            "data.batch_size=1 with model.head=aspp: batch normalisation needs at least 2 crops; "
            "use data.batch_size=2"
        )
    network = build_network(settings.model, len(data.classes), settings.train.seed)
    if ranks.world > 1 and device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return FinetuneRun(
        settings=settings,
        folder=folder,
        data=data,
        device=device,
        ranks=ranks,
        network=network,
        optimizer=build_optimizer(trained, settings.train),
    )


def _restore(run: FinetuneRun, checkpoint: dict[str, Any]) -> None:
    root, images = run.settings.data.root, checkpoint["images"]
    if checkpoint["classes"] != list(run.data.classes) or images != len(run.data.train):
        raise UserError(
            f"{root} holds {len(run.data.train)} training images and {len(run.data.classes)} "
            f"classes, but the run in {run.folder.path} was begun with {images} and "
            f"{len(checkpoint['classes'])} or other names: restore them, or start another run "
            "with --out DIR"
        )
    run.network.load_state_dict(checkpoint["model"])
    restore_optimizer(run.optimizer, checkpoint["optimizer"])
    run.step = checkpoint["step"]
