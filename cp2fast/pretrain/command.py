"""What ``cp2fast pretrain`` tells the user around the training itself."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from cp2fast.config import PretrainSettings
from cp2fast.console import open_console
from cp2fast.data.demo import DEMO_DATA, DEMO_RUN
from cp2fast.data.images import skipped_in_words
from cp2fast.pretrain.run import Processes, Run, begin, resume
from cp2fast.pretrain.training import pretrain, summary
from cp2fast.run_folder import RunFolder
from cp2fast.train.distributed import (
    Agreement,
    device_of,
    process_group,
    ranks_from_environment,
    was_restarted,
)
from cp2fast.wording import counted


def run_pretrain(settings: PretrainSettings, path: Path, resuming: bool) -> None:
    """Begin or resume a run, train it, and say what came of it and what to do next.

    A process that torchrun started again goes on from the last checkpoint, asked to or not.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    ranks = ranks_from_environment()
    device = device_of(settings.train.device, ranks)
    folder = RunFolder(path)
    console = open_console(quiet=not ranks.is_main)
    with process_group(ranks, device, settings.train.timeout_minutes):
        processes = Processes(ranks, device, Agreement(ranks, settings.train.timeout_minutes))
        restarted = was_restarted() and folder.holds_run
        (resuming,) = processes.agreement.any(resuming or restarted)
        start = resume if resuming else begin
        run = start(settings, folder, processes, console)
        if run.step >= run.total_steps:
            console.print(f"{path} is complete: all {run.step} steps were run before")
        else:
            _announce(run, console)
            began, first = time.perf_counter(), run.step
            complete = pretrain(run, console)
            minutes, seconds = divmod(round(time.perf_counter() - began), 60)
            steps = counted(run.step - first, "step")
            console.print(f"{steps} in {minutes} min {seconds} s; {summary(run)}")
            if not complete:
                again = f"cp2fast pretrain --resume --out {path}"
                console.print(f"stopped and saved; go on with: {again}")
                return
    console.print(
        f"checkpoint in {folder.checkpoints}, pictures {folder.preview} and {folder.curves}"
    )
    for line in _next(run):
        console.print(line)


def _next(run: Run) -> list[str]:
    """What to do with the weights, as it is typed."""
    path = run.folder.path
    if run.settings.data.root == DEMO_DATA:
        init = "" if path == DEMO_RUN else f" model.init={path}"
        return [
            f"next, the same scenes with their masks: cp2fast finetune-voc{init}",
            "then, on your own photos: cp2fast pretrain r50 data.root=DIR",
        ]
    return [
        f"next, on images with masks: cp2fast finetune-voc data.root=DIR model.init={path}",
        f"in other libraries: cp2fast export {path} --to timm",
        f"what it has learned: cp2fast preview --model {path}",
    ]


def _announce(run: Run, console: Console) -> None:
    name, decode, reason = run.source
    console.print(f"decoding by {name} on the {decode.upper()}: {reason}")
    if run.cache.line:
        console.print(run.cache.line)
    skipped = skipped_in_words(run.images)
    if skipped is not None:
        console.print(f"{run.settings.data.root}: {skipped}")
    processes = "" if run.ranks.world == 1 else f"{run.ranks.world} x "
    console.print(
        f"pretraining {run.settings.model.backbone} on {len(run.images)} images of "
        f"{run.settings.data.root} ({processes}{run.device.type}): steps {run.step + 1} to "
        f"{run.total_steps}, {run.steps_per_epoch} an epoch; run folder {run.folder.path}"
    )
