"""``cp2fast data check``: how a labelled data set is interpreted, and what its masks contain."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cp2fast.config import LabelledDataSettings
from cp2fast.console import open_console
from cp2fast.errors import UserError
from cp2fast.figure import save_figure
from cp2fast.files import refuse_target
from cp2fast.finetune.pictures import overlay
from cp2fast.labels.classes import palette_of
from cp2fast.labels.coding import IGNORED
from cp2fast.labels.dataset import LabelledData, read_example
from cp2fast.labels.open import open_labelled
from cp2fast.labels.survey import shares_in_words, survey

_PICTURE = "data-check"
_SHOWN = 8
_COLUMNS = 4
_CLASSES_A_LINE = 7
_MOST_CLASSES = 42
"""Most classes named in the picture."""


def run_data_check(settings: LabelledDataSettings, root: Path, out: Path | None) -> None:
    """Print the layout, the classes with their shares and the warnings, and draw eight images.

    Args:
        settings: where masks and splits are, and how masks are interpreted.
        root: the data set's root.
        out: new PNG file; None is ``data-check.png`` in the current folder, numbered if it exists.

    Raises:
        UserError: ``finetune-voc`` would refuse the data set, or ``out`` cannot be written.
    """
    path = out or _free_name()
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: the picture is PNG; name it --out FILE.png")
    refuse_target(path)
    console = open_console()
    data = open_labelled(settings, root, settings.workers)
    console.print(f"{root}: {data.said}")
    found = survey(data)
    for line in [*shares_in_words(found, data), *found.warnings]:
        console.print(line)
    draw_labelled(data, path)
    shown = min(_SHOWN, len(data.train) + len(data.val))
    console.print(f"wrote {path}: {shown} images and their masks")


def draw_labelled(data: LabelledData, path: Path) -> None:
    """Draw images spread over the training examples, each above its mask and an overlay.

    For a small data set, evaluation examples are included.
    """
    examples = data.train if len(data.train) >= _SHOWN else [*data.train, *data.val]
    shown = min(_SHOWN, len(examples))
    chosen = [examples[place * len(examples) // shown] for place in range(shown)]
    bands = -(-shown // _COLUMNS)
    columns = min(shown, _COLUMNS)
    figure = Figure(figsize=(2.6 * columns, 6.6 * bands + 0.6), layout="constrained")
    axes = figure.subplots(3 * bands, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    palette = palette_of(data.colours)
    for number, example in enumerate(chosen):
        band, column = divmod(number, _COLUMNS)
        image, labels = read_example(example, data)
        mixed = overlay(image.numpy(), labels.numpy(), data.colours)
        pictures = (image.numpy(), palette[labels.numpy()], mixed)
        for row, picture in enumerate(pictures):
            place: Axes = axes[3 * band + row, column]
            place.imshow(picture, interpolation="nearest")
        axes[3 * band, column].set_title(example.image.name[-32:], fontsize=7, loc="left")
    named = [*enumerate(data.classes[:_MOST_CLASSES]), (IGNORED, "ignored")]
    figure.legend(
        handles=[Patch(color=tuple(palette[label] / 255), label=name) for label, name in named],
        loc="outside lower left",
        ncols=_CLASSES_A_LINE,
        fontsize=7,
        frameon=False,
    )
    save_figure(figure, path)


def _free_name() -> Path:
    names = (Path(f"{_PICTURE}{'' if number == 1 else f'-{number}'}.png") for number in count(1))
    return next(name for name in names if not name.exists())
