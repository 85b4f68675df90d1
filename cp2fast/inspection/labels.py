"""``cp2fast data check``: how a labelled data set is interpreted, and what its masks contain."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path

from matplotlib.figure import Figure

from cp2fast import recipes
from cp2fast.config import FinetuneSettings
from cp2fast.errors import UserError
from cp2fast.figure import save_figure
from cp2fast.files import refuse_target
from cp2fast.finetune.pictures import draw_legend, overlay
from cp2fast.labels.classes import palette_of
from cp2fast.labels.dataset import LabelledData, evenly, read_example
from cp2fast.labels.open import open_labelled
from cp2fast.labels.survey import Survey, survey
from cp2fast.recipes import Overrides

_PICTURE = "data-check"
SHOWN = 8
"""Number of images in the picture."""
_COLUMNS = 4


@dataclass(frozen=True)
class DataCheck:
    """What images with masks are taken for.

    Attributes:
        data: layout, splits and classes.
        survey: pixels of each class, and warnings.
        picture: drawing of eight images with their masks.
    """

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
    path = _free_name() if out is None else Path(out)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: the picture is PNG; name it --out FILE.png")
    refuse_target(path)
    data = open_labelled(labelled, Path(root), labelled.workers)
    found = survey(data)
    draw_labelled(data, path)
    return DataCheck(data, found, path)


def draw_labelled(data: LabelledData, path: Path) -> None:
    """Draw images spread over the training examples, each above its mask and an overlay.

    For a small data set, evaluation examples are included.
    """
    examples = data.train if len(data.train) >= SHOWN else [*data.train, *data.val]
    chosen = evenly(examples, SHOWN)
    bands, columns = -(-len(chosen) // _COLUMNS), min(len(chosen), _COLUMNS)
    figure = Figure(figsize=(2.6 * columns, 6.6 * bands + 0.6), layout="constrained")
    axes = figure.subplots(3 * bands, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    palette = palette_of(data.colours)
    for number, example in enumerate(chosen):
        band, column = divmod(number, _COLUMNS)
        image, labels = (tensor.numpy() for tensor in read_example(example, data))
        pictures = image, palette[labels], overlay(image, labels, data.colours)
        for row, picture in enumerate(pictures):
            axes[3 * band + row, column].imshow(picture, interpolation="nearest")
        axes[3 * band, column].set_title(example.image.name[-32:], fontsize=7, loc="left")
    draw_legend(figure, data)
    save_figure(figure, path)


def _free_name() -> Path:
    names = (Path(f"{_PICTURE}{'' if number == 1 else f'-{number}'}.png") for number in count(1))
    return next(name for name in names if not name.exists())
