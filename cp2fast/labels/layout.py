"""The result of a layout's recogniser: pairs of images and masks, and their classes."""

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
"""Names of folders and columns of the two splits, in lower case."""


@dataclass(frozen=True)
class Layout:
    """A data set as it is laid out on disk."""

    name: str
    """Of the layout, for a printed line."""
    train: list[Example]
    """All examples if ``val`` is None."""
    val: list[Example] | None
    train_split: str
    """Name of the list or folder of ``train``."""
    declared: Declared | None = None
    """Classes declared by the layout itself; they take precedence over class files."""
    default: Declared | None = None
    """Classes to use if nothing else declares them; None uses the numbers in the masks."""
    has_border: bool = False
    """Whether 255 is a border between objects and never a class."""


def refuse_shared_masks(examples: Sequence[Example]) -> None:
    """Raise UserError if a mask is that of two images, such as ``a.jpg`` and ``a.png``."""
    taken: dict[object, Path] = {}
    for image, mask in examples:
        other = taken.setdefault(mask, image)
        if other != image:
            raise UserError(
                f"{other} and {image} go together with the same mask {mask}: keep one, or give it "
                "a mask of its own"
            )


def held_out(
    examples: Sequence[Example], settings: LabelSettings
) -> tuple[list[Example], list[Example]]:
    """Split off ``data.val_fraction`` of the examples by a seed. Raises UserError if too few."""
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
    examples: Iterable[Example], root: Path, settings: LabelSettings
) -> tuple[list[Example], list[Example] | None, str]:
    """``split_by_words`` of the folders below ``root`` that the images are in."""
    named = ((example, example.image.relative_to(root).parts[:-1]) for example in examples)
    return split_by_words(named, settings, "folder of images")


def split_by_words(
    examples: Iterable[tuple[Example, Sequence[str]]], settings: LabelSettings, what: str
) -> tuple[list[Example], list[Example] | None, str]:
    """Split examples by words that go with each, such as its folders.

    Args:
        examples: the examples and their words.
        settings: the names of the splits.
        what: what the words name, for an error.

    Returns:
        The training examples, the evaluation examples (None if no word indicates them), and the
        word of the former. If there are words of both splits, examples of neither, such as those
        in ``test``, are left out. All examples but those of a ``data.val_split`` that the user has
        named are learned from if none are of the training split.

    Raises:
        UserError: a split that was named has no examples.
    """
    names, given = split_names(settings), named_splits(settings)
    found: dict[str, list[Example]] = {"train": [], "val": [], "": []}
    split = ""
    for example, words in examples:
        inside = {word.lower() for word in words}
        kind = next((kind for kind, known in names.items() if inside.intersection(known)), "")
        if kind == "train" and not split:
            split = next(word for word in words if word.lower() in names["train"])
        found[kind].append(example)
    for kind, name in given.items():
        if not found[kind]:
            raise no_such_split(kind, name, what)
    if found["val"] and (found["train"] or "val" in given):
        return found["train"] or found[""], found["val"], split or "the images"
    rest = found["train"] or found[""] + found["val"]
    return rest, None, split or "the images"


def split_names(settings: LabelSettings) -> dict[str, tuple[str, ...]]:
    """The names of the two splits in lower case: the one that the user has named, or the usual."""
    given = named_splits(settings)
    usual = {"train": TRAIN_NAMES, "val": VAL_NAMES}
    return {kind: (given[kind].lower(),) if kind in given else usual[kind] for kind in usual}


def named_splits(settings: LabelSettings) -> dict[str, str]:
    """The splits that the user has named, by ``train`` and ``val``."""
    given = {"train": settings.train_split, "val": given_val_split(settings)}
    return {kind: name for kind, name in given.items() if name is not None}


def given_val_split(settings: LabelSettings) -> str | None:
    """``data.val_split`` if it is not the default."""
    usual = LabelSettings.model_fields["val_split"].default
    return None if settings.val_split == usual else settings.val_split


def no_such_split(kind: str, name: str, what: str) -> UserError:
    """The error for a split that the user has named and the data set has not."""
    return UserError(
        f"data.{kind}_split={name}: no {what} has that name: correct it, or leave it out"
    )
