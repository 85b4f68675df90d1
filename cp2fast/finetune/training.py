"""The command ``cp2fast finetune-voc``: training and what is printed before and after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from cp2fast.config import FinetuneSettings
from cp2fast.finetune.build import FINETUNE
from cp2fast.finetune.confusion import Scores
from cp2fast.finetune.start import resolve
from cp2fast.finetune.task import FinetuneTask
from cp2fast.run_folder import BEST, RunFolder, write_json
from cp2fast.train.console import RunConsole
from cp2fast.train.distributed import was_restarted
from cp2fast.train.metrics import Log
from cp2fast.train.run import Processes, Run
from cp2fast.train.session import carry_out, joined_processes

RESULT = "result.json"


def run_finetune(
    settings: FinetuneSettings,
    path: Path,
    resuming: bool,
    on_row: Log | None = None,
    quiet: bool = False,
) -> Scores | None:
    """Begin or resume a run, train it, and print its scores.

    Args:
        settings: the run's settings.
        path: path of the run's folder.
        resuming: whether to continue the existing run.
        on_row: called with each row of ``metrics.jsonl``, in the main process.
        quiet: print nothing.

    Returns:
        The scores of the last evaluation; None if the run was stopped before its end.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    folder = RunFolder(path)
    with joined_processes(settings.train, quiet) as (processes, console):
        run, complete = finetune(settings, folder, processes, console, resuming, on_row)
    if not complete:
        console.print(f"stopped and saved; continue with: {FINETUNE.command} --resume --out {path}")
        return None
    task: FinetuneTask = run.task  # type: ignore[assignment]
    found = read_result(folder)
    if found is None:
        return task.result  # not the main process
    result = _scores_in(found)
    if run.step < settings.train.steps:
        console.print(
            f"stopped at step {run.step}: no better mIoU in {settings.train.patience} evaluations"
        )
    console.print(_table(result, found.get("per_class_boundary_f"), task))
    console.print(
        f"mIoU {result.miou:.2%} and pixel accuracy {result.pixel_accuracy:.2%} over "
        f"{len(task.data.val)} images; {path / RESULT}, checkpoint in {folder.checkpoints}"
    )
    best = found.get("best")
    if best is not None and best["step"] != found["step"]:
        console.print(
            f"the best is {best['miou']:.2%} at step {best['step']}: {folder.checkpoints / BEST}, "
            "which predict and export take"
        )
    console.print(f"next: cp2fast predict {path} IMAGES --out DIR")
    return result


def finetune(
    settings: FinetuneSettings,
    folder: RunFolder,
    processes: Processes,
    console: RunConsole,
    resuming: bool,
    on_row: Log | None = None,
) -> tuple[Run[Any], bool]:
    """Train and evaluate; ``result.json`` is written last and marks a complete run.

    Returns:
        The run, and whether it is complete.

    Raises:
        UserError: bad input; nothing was overwritten.
    """
    if folder.holds_run and (resuming or was_restarted()):
        settings = resolve(settings)
    run, complete = carry_out(
        FINETUNE,
        settings,
        folder,
        processes,
        console,
        resuming,
        lambda run: run.is_complete and read_result(folder) is not None,
        on_row,
    )
    task: FinetuneTask = run.task  # type: ignore[assignment]
    if processes.ranks.is_main and complete and task.result is not None:
        _write_result(run, task.result)
    return run, complete


def read_result(folder: RunFolder) -> dict[str, Any] | None:
    """The content of ``result.json``; None if the run is not complete."""
    path = folder.path / RESULT
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _write_result(run: Run[Any], result: Scores) -> None:
    task: FinetuneTask = run.task  # type: ignore[assignment]
    best = None if run.best is None else {"miou": run.best[0], "step": run.best[1]}
    boundary = task.boundary
    content = asdict(result) | {
        "boundary_f": None if boundary is None else boundary.mean,
        "per_class_boundary_f": None if boundary is None else boundary.per_class,
        "best": best,
        "images": len(task.data.val),
        "step": run.step,
        "settings": run.task.settings.model_dump(mode="json"),
    }
    write_json(run.folder.path / RESULT, content)


def _scores_in(found: Mapping[str, Any]) -> Scores:
    """The scores in a ``result.json``; in older files without Dice, it is computed from the IoU."""
    per_class = found["per_class"]
    dice = {name: None if iou is None else 2 * iou / (1 + iou) for name, iou in per_class.items()}
    dice = found.get("per_class_dice", dice)
    present = [value for value in dice.values() if value is not None]
    mean = sum(present) / len(present) if present else 0.0
    return Scores(found["miou"], found["pixel_accuracy"], per_class, mean, dice)


def _table(
    result: Scores, boundary: Mapping[str, float | None] | None, task: FinetuneTask
) -> Table:
    """Scores by class; a class that never occurs has none and does not count in the means."""
    table = Table(
        *("class", "IoU", "Dice", *(["boundary F"] if boundary else [])),
        title=f"{task.settings.data.val_split}, {len(task.data.val)} images",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    columns = [result.per_class, result.per_class_dice, *([boundary] if boundary else [])]
    for name in result.per_class:
        table.add_row(name, *(_percent(column[name]) for column in columns))
    table.add_section()
    means = zip(("IoU", "Dice", "boundary F"), columns, strict=False)
    for place, (name, per_class) in enumerate(means):
        table.add_row(f"mean {name}", *[""] * place, _percent(_mean(per_class)))
    table.add_row("pixel accuracy", f"{result.pixel_accuracy:.2%}")
    return table


def _mean(per_class: Mapping[str, float | None]) -> float | None:
    present = [value for value in per_class.values() if value is not None]
    return sum(present) / len(present) if present else None


def _percent(share: float | None) -> str:
    return "nowhere" if share is None else f"{share:.2%}"
