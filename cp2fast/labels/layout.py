"""What a recogniser finds: pairs of images and masks, and what the layout says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cp2fast.config import LabelSettings
from cp2fast.errors import UserError
from cp2fast.labels.class_files import Declared
from cp2fast.labels.dataset import Example
from cp2fast.philox import Stream, permutation

TRAIN_NAMES = ("train", "training", "trn")
VAL_NAMES = ("val", "valid", "validation", "dev")
"""What folders and columns of the two splits are called, in lower case."""


@dataclass(frozen=True)
class Layout:
    """A data set as it lies on the disk.

    Attributes:
        name: name of the layout, for one line.
        train: what is trained on; all there is, where ``val`` is None.
        val: what is evaluated on.
        train_split: name of the list or folder of ``train``.
        declared: the classes that the layout itself tells, before any file of names.
        default: the classes where nothing else tells them; None finds the numbers in the masks.
        has_border: whether 255 is a border between objects and never a class.
    """

    name: str
    train: list[Example]
    val: list[Example] | None
    train_split: str
    declared: Declared | None = None
    default: Declared | None = None
    has_border: bool = False


def held_out(
    examples: Sequence[Example], settings: LabelSettings
) -> tuple[list[Example], list[Example]]:
    """Those trained on and those evaluated on, ``data.val_fraction`` of them, drawn by a seed.

    Raises:
        UserError: there are too few.
    """
    count = round(settings.val_fraction * len(examples))
    if count == 0 or count == len(examples):
        raise UserError(
            f"data.val_fraction={settings.val_fraction:g} of {len(examples)} images leaves none to "
            f"{'score on' if count == 0 else 'learn from'}: change it, or add images"
        )
    order = permutation(settings.val_seed, Stream.PROBE, 2, len(examples))
    chosen = set(order[:count].tolist())
    train = [one for number, one in enumerate(examples) if number not in chosen]
    return train, [examples[number] for number in sorted(chosen)]


def split_by_folder(
    pairs: Iterable[tuple[Path, Example]], settings: LabelSettings
) -> tuple[list[Example], list[Example] | None, str]:
    """Examples by the folders of a split that they lie in.

    Args:
        pairs: relative path of each image, and the example.
        settings: ``train_split`` and ``val_split`` name folders too.

    Returns:
        Those trained on, those evaluated on (None where no folder tells), and the folder's name.
        With both kinds of folders, what lies in neither is left out, such as ``test``.
    """
    names = {"train": _names(settings.train_split, TRAIN_NAMES), "val": _val_names(settings)}
    found: dict[str, list[Example]] = {"train": [], "val": [], "": []}
    folder = ""
    for path, example in pairs:
        parts = [part.lower() for part in path.parts[:-1]]
        kind = next((kind for kind, known in names.items() if set(known) & set(parts)), "")
        if kind == "train" and not folder:
            folder = next(p for p in path.parts[:-1] if p.lower() in names["train"])
        found[kind].append(example)
    if found["train"] and found["val"]:
        return found["train"], found["val"], folder
    rest = found["train"] or found[""] + found["val"]
    return rest, None, folder or "the images"


def _names(given: str | None, usual: Sequence[str]) -> tuple[str, ...]:
    return (given.lower(),) if given is not None else tuple(usual)


def _val_names(settings: LabelSettings) -> tuple[str, ...]:
    usual = LabelSettings.model_fields["val_split"].default
    return VAL_NAMES if settings.val_split == usual else (settings.val_split.lower(),)
