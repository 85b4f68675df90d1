"""``cp2fast data check``: how a labelled data set is interpreted, and what its masks contain."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cp2fast import recipes
from cp2fast.config import FinetuneSettings
from cp2fast.errors import UserError
from cp2fast.files import path_of, refuse_target
from cp2fast.labels.classes import palette_of
from cp2fast.labels.dataset import LabelledData, evenly, read_example
from cp2fast.labels.open import open_labelled
from cp2fast.labels.pictures import draw_grid, overlay
from cp2fast.labels.survey import Survey, survey
from cp2fast.recipes import Overrides

_PICTURE = "data-check"
SHOWN = 8
"""Number of images in the picture."""


@dataclass(frozen=True)
class DataCheck:
    """What images with masks are taken for, what they hold, and eight of them drawn."""

    data: LabelledData
    survey: Survey
    picture: Path


def check_data(
    root: str | Path,
    settings: FinetuneSettings | str | Path | None = None,
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
) -> DataCheck:
    """Find the layout and the classes of images with masks, read every mask, and draw eight.

    Args:
        root: the data set, in any layout of docs/labels.md.
        settings: settings of ``finetune``, or a recipe by name or file; None is the defaults.
        overrides: settings by key, such as ``{"data.unknown": "ignore"}``.
        out: new PNG file; None is ``data-check.png`` in the current folder, numbered if it exists.

    Raises:
        UserError: ``finetune`` would refuse the data set, or ``out`` cannot be written.
    """
    labelled = recipes.load(FinetuneSettings, settings, overrides).data
    path = _free_name() if out is None else path_of(out)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: the picture is PNG; name it --out FILE.png")
    refuse_target(path)
    data = open_labelled(labelled, path_of(root), labelled.workers)
    found = survey(data)
    draw_labelled(data, path)
    return DataCheck(data, found, path)


def draw_labelled(data: LabelledData, path: Path) -> None:
    """Draw images, each above its mask and an overlay; of a small data set, of both splits."""
    examples = data.train if len(data.train) >= SHOWN else [*data.train, *data.val]
    chosen = evenly(examples, SHOWN)
    palette, columns = palette_of(data.colours), []
    for example in chosen:
        image, labels = (tensor.numpy() for tensor in read_example(example, data))
        columns.append([image, palette[labels], overlay(image, labels, data.colours)])
    titles = {(0, column): example.image.name for column, example in enumerate(chosen)}
    draw_grid(list(zip(*columns, strict=True)), titles, path, data, cell=(2.6, 2.2))


def _free_name() -> Path:
    names = (Path(f"{_PICTURE}{'' if number == 1 else f'-{number}'}.png") for number in count(1))
    return next(name for name in names if not name.exists())
