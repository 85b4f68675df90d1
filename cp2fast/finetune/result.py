"""The result of a complete fine-tuning: ``result.json``, and what is printed of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cp2fast.finetune.evaluate import Scores
from cp2fast.run_folder import BEST, RunFolder

if TYPE_CHECKING:
    from cp2fast.finetune.task import FinetuneTask
    from cp2fast.train.run import Run

RESULT = "result.json"


def read_result(folder: RunFolder) -> dict[str, Any] | None:
    """The content of ``result.json``; None if the run is not complete."""
    path = folder.path / RESULT
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def scores_of(run: Run[FinetuneTask]) -> Scores:
    """The scores of the last evaluation of a complete run, by this process or by an earlier one."""
    if run.task.result is not None:
        return run.task.result
    found: Any = read_result(run.folder)
    return Scores(**{field.name: found.get(field.name) for field in fields(Scores)})


def report(run: Run[FinetuneTask]) -> Iterator[str | Table]:
    """Lines and a table for the user."""
    folder, train, data = run.folder, run.task.settings.train, run.task.data
    scores, found = scores_of(run), read_result(folder) or {}
    if run.step < train.steps:
        yield f"stopped at step {run.step}: no better mIoU in {train.patience} evaluations"
    yield _table(scores, f"{run.task.settings.data.val_split}, {len(data.val)} images")
    yield (
        f"mIoU {scores.miou:.2%} and pixel accuracy {scores.pixel_accuracy:.2%} over "
        f"{len(data.val)} images; {folder.path / RESULT}, checkpoint in {folder.checkpoints}"
    )
    best = found.get("best")
    if best is not None and best["step"] != found["step"]:
        yield (
            f"the best is {best['miou']:.2%} at step {best['step']}: {folder.checkpoints / BEST}, "
            "which predict and export take"
        )
    yield f"next: cp2fast predict {quote(str(folder.path))} PHOTOS --out DIR"


def _table(scores: Scores, title: str) -> Table:
    """Scores by class; a class that never occurs has none and does not count in the means."""
    columns = [
        ("IoU", scores.miou, scores.per_class),
        ("Dice", scores.dice, scores.per_class_dice),
        ("boundary F", scores.boundary_f, scores.per_class_boundary_f),
    ]
    # The boundary is not always computed, and results of older versions have no Dice.
    computed = [(name, mean, values) for name, mean, values in columns if values is not None]
    table = Table("class", *(name for name, _, _ in computed), title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in scores.per_class:
        table.add_row(name, *(_percent(values[name]) for _, _, values in computed))
    table.add_section()
    for place, (name, mean, _) in enumerate(computed):
        table.add_row(f"mean {name}", *[""] * place, _percent(mean))
    table.add_row("pixel accuracy", f"{scores.pixel_accuracy:.2%}")
    return table


def _percent(share: float | None) -> str:
    return "nowhere" if share is None else f"{share:.2%}"
