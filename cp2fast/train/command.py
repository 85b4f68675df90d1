"""What ``cp2fast pretrain`` tells the user around the training itself."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from cp2fast.config import PretrainSettings
from cp2fast.train.pretrain import pretrain, summary
from cp2fast.train.run import begin, resume
from cp2fast.train.run_folder import RunFolder


def run_pretrain(settings: PretrainSettings, path: Path, resuming: bool) -> None:
    """Begin or resume a run, train it, and say what came of it and what to do next.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    console = Console(soft_wrap=True, highlight=False)
    folder = RunFolder(path)
    run = resume(settings, folder, console) if resuming else begin(settings, folder, console)
    if run.step >= run.total_steps:
        console.print(f"{path} is complete: all {run.step} steps were run before")
    else:
        name, decode, reason = run.source
        console.print(f"decoding by {name} on the {decode.upper()}: {reason}")
        console.print(
            f"pretraining {run.settings.model.backbone} on {len(run.images)} images of "
            f"{run.settings.data.root} ({run.device}): steps {run.step + 1} to {run.total_steps}, "
            f"{run.steps_per_epoch} an epoch; run folder {path}"
        )
        began, first = time.perf_counter(), run.step
        complete = pretrain(run, console)
        minutes, seconds = divmod(round(time.perf_counter() - began), 60)
        console.print(f"{run.step - first} steps in {minutes} min {seconds} s; {summary(run)}")
        if not complete:
            console.print(f"stopped and saved; go on with: cp2fast pretrain --resume --out {path}")
            return
    console.print(
        f"checkpoint in {folder.checkpoints}, pictures {folder.preview} and {folder.curves}"
    )
    if run.settings.data.scenes:
        console.print("next, on your own photos: cp2fast pretrain r50 data.root=DIR")
    else:
        console.print(f"next, to start another run from these weights: model.init={path}")
