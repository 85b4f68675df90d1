"""A pretraining run: what it consists of, how it begins, and how it goes on from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from cp2fast import __version__, recipes
from cp2fast.config import (
    FinetuneTrainSettings,
    PretrainSettings,
    Section,
    TrainSettings,
    check_pretrain,
)
from cp2fast.data.bad_images import BadImages
from cp2fast.data.images import list_images
from cp2fast.data.order import steps_per_epoch
from cp2fast.data.source import Choice, choose_source
from cp2fast.errors import UserError
from cp2fast.model.cp2 import CP2, build_cp2
from cp2fast.model.weights import load_weights
from cp2fast.train.batches import data_root
from cp2fast.train.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from cp2fast.train.run_folder import RunFolder, atomic_write

_FIXED = ("model.", "data.background", "data.batch_size", "train.seed", "train.optimizer")
"""A run cannot be continued with other values of these."""


@dataclass
class Run:
    """Everything a step touches; ``step`` counts the steps done."""

    settings: PretrainSettings
    folder: RunFolder
    images: list[Path]
    source: Choice
    device: torch.device
    network: CP2
    optimizer: Optimizer
    bad: BadImages
    steps_per_epoch: int
    step: int = 0

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        train = self.settings.train
        return train.steps or train.epochs * self.steps_per_epoch


def begin(settings: PretrainSettings, folder: RunFolder, console: Console) -> Run:
    """Build a new run; its folder is made last, when nothing else can fail.

    Raises:
        UserError: bad input; nothing was written but the demo data.
    """
    run = _build(settings, folder)
    _load_initial_weights(run, console)
    folder.create(recipes.to_yaml(run.settings))
    return run


def resume(settings: PretrainSettings, folder: RunFolder, console: Console) -> Run:
    """Build the run that ``folder`` holds, as it was at its newest checkpoint, or at its start.

    Raises:
        UserError: there is none, or ``settings`` belong to another run.
    """
    check_same_run(settings, folder, _FIXED)
    found = list_checkpoints(folder.checkpoints)
    checkpoint = load_checkpoint(found[-1]) if found else None
    run = _build(settings, folder)
    if checkpoint is None:
        _load_initial_weights(run, console)
    else:
        _restore(run, checkpoint)
    folder.truncate_metrics(run.step)
    with atomic_write(folder.config) as file:
        file.write(recipes.to_yaml(run.settings).encode())
    return run


def _load_initial_weights(run: Run, console: Console) -> None:
    if run.settings.model.init is not None:
        console.print(str(load_weights(run.network.encoder_q, run.settings.model.init)))
        run.network.encoder_k.load_state_dict(run.network.encoder_q.state_dict())


def _restore(run: Run, checkpoint: dict[str, Any]) -> None:
    if checkpoint["images"] != len(run.images):
        raise UserError(
            f"data.root={run.settings.data.root} holds {len(run.images)} images, but the run in "
            f"{run.folder.path} was begun with {checkpoint['images']}: restore them, or start "
            "another with --out DIR"
        )
    run.network.load_state_dict(checkpoint["model"])
    run.optimizer.load_state_dict(checkpoint["optimizer"])
    run.bad.load_state_dict(checkpoint["bad_images"])
    run.step = checkpoint["step"]


def save(run: Run) -> None:
    """Write a checkpoint from which the run goes on bit for bit."""
    state = {
        "model": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "images": len(run.images),
        "bad_images": run.bad.state_dict(),
        "settings": run.settings.model_dump(mode="json"),
        "versions": {"cp2fast": __version__, "torch": str(torch.__version__)},
    }
    keep = run.settings.train.checkpoint_keep
    save_checkpoint(run.folder.checkpoints, run.step, state, keep)


def _build(settings: PretrainSettings, folder: RunFolder) -> Run:
    check_pretrain(settings)
    device = _device(settings.train)
    root = data_root(settings.data)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"root": root})})
    images = list_images(root)
    network = build_cp2(settings.model, settings.train.seed)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Run(
        settings=settings,
        folder=folder,
        images=images,
        source=choose_source(settings.data, images, device),
        device=device,
        network=network,
        optimizer=build_optimizer(network.encoder_q.parameters(), settings.train),
        bad=BadImages(folder.path, settings.data.max_bad_fraction),
        steps_per_epoch=steps_per_epoch(len(images), settings.data.batch_size),
    )


def check_same_run(settings: Section, folder: RunFolder, fixed: tuple[str, ...]) -> None:
    """Refuse to go on with a run under other settings.

    Args:
        settings: to go on with.
        folder: of the run.
        fixed: beginnings of the keys that must not differ; ``model.init`` may.

    Raises:
        UserError: ``folder`` holds no run of this kind, or one of these keys differs.
    """
    if not folder.holds_run:
        raise UserError(f"{folder.path} holds no run to resume: leave out --resume to start one")
    before = recipes.load(type(settings), str(folder.config), [])
    for key, old, new in recipes.differences(before, settings):
        if key.startswith(fixed) and key != "model.init":
            raise UserError(
                f"{key}={new}, but the run in {folder.path} was begun with {old}: "
                "keep it, or start another run with --out DIR"
            )


def _device(train: TrainSettings) -> torch.device:
    if train.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "train.device=cuda, but torch sees no CUDA GPU here: use train.device=cpu, "
            "or check the driver with nvidia-smi"
        )
    if train.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(train.device)


def build_optimizer(
    parameters: Iterable[nn.Parameter], train: TrainSettings | FinetuneTrainSettings
) -> Optimizer:
    """The optimiser that the settings name, over ``parameters``."""
    if train.optimizer == "adamw":
        return AdamW(parameters, lr=train.lr, weight_decay=train.weight_decay)
    return SGD(parameters, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay)
