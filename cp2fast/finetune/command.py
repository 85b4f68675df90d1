"""What ``cp2fast finetune-voc`` tells the user around the training itself."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cp2fast.config import FinetuneSettings
from cp2fast.console import open_console
from cp2fast.data.demo import data_root
from cp2fast.finetune.confusion import Scores
from cp2fast.finetune.run import FinetuneRun, begin, resume
from cp2fast.finetune.training import RESULT, finetune, read_result
from cp2fast.run_folder import RunFolder
from cp2fast.train.distributed import Agreement, device_of, process_group, ranks_from_environment
from cp2fast.wording import counted


def run_finetune(settings: FinetuneSettings, path: Path, resuming: bool) -> None:
    """Begin or resume a run, train it, and print its scores.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    ranks = ranks_from_environment()
    console = open_console(quiet=not ranks.is_main)
    device = device_of(settings.train.device, ranks)
    folder = RunFolder(path)
    with process_group(ranks, device, settings.train.timeout_minutes):
        agreement = Agreement(ranks, settings.train.timeout_minutes)
        with agreement.main_first():  # the demo's images are generated once
            data_root(settings.data)
        start = resume if resuming else begin
        run = start(settings, folder, device, ranks, console)
        done = read_result(folder) if run.step >= run.total_steps else None
        if done is not None:
            console.print(f"{path} is complete: all {run.step} steps were run before")
            result = Scores(done["miou"], done["pixel_accuracy"], done["per_class"])
        else:
            trained = train(run, console)
            if trained is None:
                console.print(
                    f"stopped and saved; go on with: cp2fast finetune-voc --resume --out {path}"
                )
                return
            result = trained
    console.print(_table(result, run))
    console.print(
        f"mIoU {result.miou:.2%} and pixel accuracy {result.pixel_accuracy:.2%} over "
        f"{len(run.data.val)} images; {path / RESULT}, checkpoint in {folder.checkpoints}"
    )
    console.print(f"next: cp2fast predict {path} IMAGES --out DIR")


def train(run: FinetuneRun, console: Console) -> Scores | None:
    """Train and evaluate, saying what and how long; None when stopped before the end."""
    data, model = run.data, run.settings.model
    console.print(
        f"fine-tuning {model.backbone} with {model.head} on {len(data.train)} images of "
        f"{run.settings.data.root} ({data.train_split}; {len(data.classes)} classes; "
        f"{run.device}): steps {run.step + 1} to {run.total_steps}; run folder {run.folder.path}"
    )
    began, first = time.perf_counter(), run.step
    result = finetune(run, console)
    minutes, seconds = divmod(round(time.perf_counter() - began), 60)
    console.print(
        f"{counted(run.step - first, 'step')} in {minutes} min {seconds} s, evaluation included"
    )
    return result


def _table(result: Scores, run: FinetuneRun) -> Table:
    """IoU by class; a class that is nowhere has none and does not count in the mean."""
    table = Table(
        "class", "IoU", title=f"{run.settings.data.val_split}, {len(run.data.val)} images"
    )
    table.columns[1].justify = "right"
    for name, iou in result.per_class.items():
        table.add_row(name, "nowhere" if iou is None else f"{iou:.2%}")
    table.add_section()
    table.add_row("mean IoU", f"{result.miou:.2%}")
    table.add_row("pixel accuracy", f"{result.pixel_accuracy:.2%}")
    return table
