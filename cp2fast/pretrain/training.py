"""The command ``cp2fast pretrain``: training and what is printed before and after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cp2fast.batch import CopyPasteBatch
from cp2fast.config import PretrainSettings
from cp2fast.data.demo import DEMO_DATA, DEMO_RUN
from cp2fast.pretrain.build import PRETRAIN
from cp2fast.pretrain.objects import objects_in_colours
from cp2fast.pretrain.watch import PICTURE
from cp2fast.run_folder import RunFolder
from cp2fast.train.metrics import Log
from cp2fast.train.run import Run
from cp2fast.train.session import carry_out, joined_processes


def run_pretrain(
    settings: PretrainSettings,
    path: Path,
    resuming: bool,
    on_row: Log | None = None,
    quiet: bool = False,
) -> Run[CopyPasteBatch]:
    """Begin or resume a run, train it, and print the outcome and what to do next.

    Args:
        settings: the run's settings.
        path: path of the run's folder.
        resuming: whether to continue the existing run.
        on_row: called with each row of ``metrics.jsonl``, in the main process.
        quiet: print nothing.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    folder = RunFolder(path)
    with joined_processes(settings.train, quiet) as (processes, console):
        run, complete = carry_out(
            PRETRAIN, settings, folder, processes, console, resuming, on_row=on_row
        )
    if not complete:
        console.print(f"stopped and saved; continue with: {PRETRAIN.command} --resume --out {path}")
        return run
    console.print(
        f"checkpoint in {folder.checkpoints}; pictures {folder.preview}, {folder.curves} and "
        f"{path / PICTURE}"
    )
    for line in _next(run):
        console.print(line)
    return run


def _next(run: Run[Any]) -> list[str]:
    """Commands that use the weights, ready to type."""
    path = run.folder.path
    if run.task.settings.data.root == DEMO_DATA:
        init = "" if path == DEMO_RUN else f" model.init={path}"
        objects = objects_in_colours(path, DEMO_DATA / "SegmentationClass")
        return [
            *([] if objects is None else [str(objects)]),
            f"next, the same scenes with their masks: cp2fast finetune-voc{init}",
            "then, on your own photos: cp2fast pretrain r50 data.root=DIR",
        ]
    return [
        f"next, on images with masks: cp2fast finetune-voc data.root=DIR model.init={path}",
        f"in other libraries: cp2fast export {path} --to timm",
        f"what it has learned: cp2fast preview --model {path}",
    ]
