"""A pretraining run: what it consists of, how it begins, and how it goes on from a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console

from cp2fast import __version__, recipes
from cp2fast.config import SIZE_STEP, PretrainSettings, Section, check_pretrain, fewest_images
from cp2fast.copypaste.backends import fastest_backend
from cp2fast.data.bad_images import BadImages
from cp2fast.data.demo import data_root
from cp2fast.data.images import ImageSet, list_images
from cp2fast.data.order import steps_per_epoch
from cp2fast.data.source import Choice, choose_source
from cp2fast.errors import UserError
from cp2fast.model.cp2 import CP2
from cp2fast.pretrain.learner import Learner, build_learner
from cp2fast.run_folder import RunFolder, atomic_write
from cp2fast.train.checkpoint import load_checkpoint, newest_intact, save_checkpoint
from cp2fast.train.distributed import Agreement, Ranks
from cp2fast.train.loggers import check_loggers
from cp2fast.train.optimizer import restore_optimizer
from cp2fast.train.schedule import scaled_by_batch
from cp2fast.weights.load import load_weights

KIND = "pretrain"
"""What a checkpoint's ``kind`` says."""

_FIXED = ("model.", "data.background", "data.order", "train.seed", "train.optimizer")
"""A run cannot be continued with other values of these, nor with other samples a step."""


@dataclass
class Processes:
    """Where a run runs: its processes, this one's device, and how they talk on the host."""

    ranks: Ranks
    device: torch.device
    agreement: Agreement


@dataclass
class Run:
    """Everything a step touches; ``step`` counts the steps done.

    Attributes:
        learner: network and optimiser.
        lr: peak learning rate, after scaling.
    """

    settings: PretrainSettings
    folder: RunFolder
    processes: Processes
    images: ImageSet
    source: Choice
    learner: Learner
    lr: float
    bad: BadImages
    steps_per_epoch: int
    step: int = field(default=0)

    @property
    def network(self) -> CP2:
        """The encoders and the queue."""
        return self.learner.network

    @property
    def device(self) -> torch.device:
        """Of this process."""
        return self.processes.device

    @property
    def ranks(self) -> Ranks:
        """This process among those of the run."""
        return self.processes.ranks

    @property
    def samples_per_step(self) -> int:
        """Over all batches and processes."""
        return _samples_per_step(self.settings, self.ranks)

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        train = self.settings.train
        return train.steps or train.epochs * self.steps_per_epoch


def begin(
    settings: PretrainSettings, folder: RunFolder, processes: Processes, console: Console
) -> Run:
    """Build a new run; its folder is made last, when nothing else can fail.

    Raises:
        UserError: bad input; nothing was written but the demo data.
    """
    if processes.ranks.is_main:
        folder.refuse_unless_new()
    run = _build(settings, folder, processes)
    _load_initial_weights(run, console)
    if run.ranks.is_main:
        folder.create(recipes.to_yaml(run.settings))
    return _distributed(run)


def resume(
    settings: PretrainSettings, folder: RunFolder, processes: Processes, console: Console
) -> Run:
    """Build the run that ``folder`` holds, as it was at its newest intact checkpoint or its start.

    Raises:
        UserError: there is none, all checkpoints are damaged, or ``settings`` belong to another
            run or end before the step that it has reached; the folder is as it was.
    """
    check_same_run(settings, folder, _FIXED)
    is_main = processes.ranks.is_main
    path = newest_intact(folder.checkpoints, console.print) if is_main else None
    path = processes.agreement.gather(path)[0]
    checkpoint = None if path is None else load_checkpoint(path)
    run = _build(settings, folder, processes)
    if checkpoint is None:
        _load_initial_weights(run, console)
    else:
        _restore(run, checkpoint)
    _check_reaches(run)
    if is_main and run.step < run.total_steps:
        folder.truncate_metrics(run.step)
        with atomic_write(folder.config) as file:
            file.write(recipes.to_yaml(run.settings).encode())
    return _distributed(run)


def save(run: Run) -> None:
    """Write a checkpoint from which the run goes on bit for bit; the main process's business.

    Raises:
        UserError: the disk does not take it.
    """
    state = {
        "kind": KIND,
        "model": run.network.state_dict(),
        "optimizer": run.learner.optimizer.state_dict(),
        "scaler": run.learner.scaler.state_dict(),
        "step": run.step,
        "images": len(run.images),
        "samples_per_step": run.samples_per_step,
        "bad_images": run.bad.state_dict(),
        "settings": run.settings.model_dump(mode="json"),
        "versions": {"cp2fast": __version__, "torch": str(torch.__version__)},
    }
    keep = run.settings.train.checkpoint_keep
    save_checkpoint(run.folder.checkpoints, run.step, state, keep)


def _load_initial_weights(run: Run, console: Console) -> None:
    if run.settings.model.init is not None:
        console.print(str(load_weights(run.network.encoder_q, run.settings.model.init)))
        run.network.encoder_k.load_state_dict(run.network.encoder_q.state_dict())


def _restore(run: Run, checkpoint: dict[str, Any]) -> None:
    if checkpoint.get("kind") != KIND:
        raise UserError(
            f"the checkpoint in {run.folder.path} is not one of this version's pretraining runs: "
            "start another run with --out DIR, from its weights with model.init"
        )
    if checkpoint["images"] != len(run.images):
        raise UserError(
            f"data.root={run.settings.data.root} holds {len(run.images)} images, but the run in "
            f"{run.folder.path} was begun with {checkpoint['images']}: restore them, or start "
            "another with --out DIR"
        )
    if checkpoint["samples_per_step"] != run.samples_per_step:
        raise UserError(
            f"data.batch_size={run.settings.data.batch_size} x train.accumulate="
            f"{run.settings.train.accumulate} x {run.ranks.world} processes are "
            f"{run.samples_per_step} samples a step, but the run in {run.folder.path} was begun "
            f"with {checkpoint['samples_per_step']}: keep that, or start another run with --out DIR"
        )
    run.network.load_state_dict(checkpoint["model"])
    restore_optimizer(run.learner.optimizer, checkpoint["optimizer"])
    if checkpoint["scaler"]:  # Empty but of a run in float16.
        run.learner.scaler.load_state_dict(checkpoint["scaler"])
    run.bad.load_state_dict(checkpoint["bad_images"])
    run.step = checkpoint["step"]


def _check_reaches(run: Run) -> None:
    if run.total_steps >= run.step:
        return
    train, name, least = run.settings.train, "train.steps", run.step
    if train.steps is None:
        name, least = "train.epochs", math.ceil(run.step / run.steps_per_epoch)
    raise UserError(
        f"{name}={train.steps or train.epochs} ends at step {run.total_steps}, but the run in "
        f"{run.folder.path} has reached step {run.step}: set {name} to {least} or more, or start "
        "another run with --out DIR"
    )


def _build(settings: PretrainSettings, folder: RunFolder, processes: Processes) -> Run:
    check_pretrain(settings)
    check_loggers(settings.train.log)
    device, train = processes.device, settings.train
    with processes.agreement.main_first():  # the demo's images are generated once
        root = data_root(settings.data)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"root": root})})
    images = list_images(root)
    samples = _samples_per_step(settings, processes.ranks)
    learner = build_learner(settings, device)
    _check_growing_sizes(settings, learner.network.encoder_q.stride)
    fastest_backend(device.type)  # compiled now, or another taken, and not in the first step
    return Run(
        settings=settings,
        folder=folder,
        processes=processes,
        images=images,
        source=choose_source(settings.data, images, device),
        learner=learner,
        lr=train.lr if train.lr_scaling == "none" else scaled_by_batch(train.lr, samples),
        bad=BadImages(
            folder.path,
            settings.data.max_bad_fraction,
            again=f"cp2fast pretrain --resume --out {folder.path}",
        ),
        steps_per_epoch=steps_per_epoch(len(images), samples, fewest_images(settings.data)),
    )


def _check_growing_sizes(settings: PretrainSettings, stride: int) -> None:
    start = settings.train.resolution
    if start is not None and (start % stride or SIZE_STEP % stride):
        raise UserError(
            f"train.resolution={start} with model.backbone={settings.model.backbone}: its cells of "
            f"{stride} pixels do not divide sizes that grow by {SIZE_STEP}; leave out "
            "train.resolution"
        )


def _distributed(run: Run) -> Run:
    """Join the processes; the weights must be the right ones by now."""
    if run.ranks.world > 1:
        run.learner.distribute()
    return run


def _samples_per_step(settings: PretrainSettings, ranks: Ranks) -> int:
    return settings.data.batch_size * settings.train.accumulate * ranks.world


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
