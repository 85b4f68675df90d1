"""Read every mask once before a long training: count its classes and find what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding.decode import BadImage, image_size, read_file
from cp2fast.data.decoding.orientation import UPRIGHT, orientation_of
from cp2fast.data.prefetch import map_ahead
from cp2fast.errors import UserError
from cp2fast.labels.coding import Oddity
from cp2fast.labels.dataset import Example, LabelledData, differs, unknown_labels, unreadable
from cp2fast.labels.masks import IGNORED

_SHOWN = 5
"""How many classes a warning names."""
_MANY = 0.1
"""Warn above this share of guessed pixels."""


@dataclass(frozen=True)
class Survey:
    """The content of a data set's masks."""

    train: NDArray[np.int64]
    """Pixel counts by label in the training masks, ``[256]``; the last is ignored."""
    val: NDArray[np.int64]
    warnings: list[str]
    """Classes that never occur and other possible mistakes, one line each."""


def survey(data: LabelledData) -> Survey:
    """Read every mask.

    Raises:
        UserError: names the first mask that cannot be used and counts the others, or names values
            that belong to no class.
    """
    examples = list(dict.fromkeys([*data.train, *data.val]))
    looked_at: dict[Example, _Look] = {}
    unknown = Counter[int]()
    look_at, threads = partial(_look_at, data), data.threads
    with closing(map_ahead(look_at, examples, threads=threads, ahead=threads)) as looks:
        for example, (look, of_mask) in zip(examples, looks, strict=True):
            looked_at[example] = look
            if not unknown or data.coding.kind == "colours":
                unknown.update(of_mask)
    _refuse(looked_at, unknown, data)
    train, val = (
        np.sum([looked_at[example].pixels for example in split], axis=0)
        for split in (data.train, data.val)
    )
    warnings = [
        *_missing_classes(train, data),
        *_guessed(looked_at),
        *_turned_without_their_masks(looked_at),
    ]
    return Survey(train, val, warnings)


def shares_in_words(found: Survey, data: LabelledData) -> list[str]:
    """A table of the classes' shares of the labelled pixels, one line per class."""
    width = max(len(name) for name in (*data.classes, "ignored"))

    def row(name: str, label: int, labels: slice) -> str:
        shares = (
            pixels[label] / max(1, pixels[labels].sum()) for pixels in (found.train, found.val)
        )
        return f"{name:{width}}  " + "  ".join(map(_share, shares))

    return [
        f"{'class':{width}}  {'train':>8}  {'val':>8}",
        *(row(name, label, slice(IGNORED)) for label, name in enumerate(data.classes)),
        row("ignored", IGNORED, slice(None)) + "  (of all pixels)",
    ]


def _share(share: float) -> str:
    if share == 0:
        return f"{'none':>8}"
    return f"{'< 0.01 %':>8}" if share < 0.0001 else f"{100 * share:6.2f} %"


def _refuse(
    looked_at: Mapping[Example, _Look], unknown: Mapping[int, int], data: LabelledData
) -> None:
    """Refuse problems, and ``unknown`` values: colours of all masks, numbers of the first alone."""
    problems = [look.problem for look in looked_at.values() if look.problem is not None]
    if problems:
        raise UserError(problems[0] + _and_more(len(problems) - 1))
    strange = [(example.mask, look.oddity) for example, look in looked_at.items() if look.strange]
    if not strange:
        return
    mask, oddity = strange[0]
    others = len(strange) - 1
    if data.coding.kind != "colours":
        raise UserError(unknown_labels(mask, unknown, oddity, data) + _and_more(others))
    where = str(mask) + (f" (with {others} more)" if others else "")
    raise UserError(unknown_labels(where, unknown, oddity, data))


def _missing_classes(pixels_by_label: NDArray[np.int64], data: LabelledData) -> Iterator[str]:
    """Warnings about classes that have no training pixels."""
    count = len(data.classes)
    missing = [label for label in range(count) if not pixels_by_label[label]]
    if not missing:
        return
    ignored = pixels_by_label[IGNORED]
    if len(missing) == count:
        yield (
            f"warning: all pixels of {data.train_split} are {IGNORED}, which is ignored, so there "
            f"is nothing to learn: labels are 0 to {count - 1}"
        )
    elif missing == list(range(1, count)) and ignored and data.has_border:
        meant = f"'{data.classes[1]}', save it as 1" if count == 2 else "a class, save its label"
        yield (
            f"warning: the masks of {data.train_split} hold 0 and {IGNORED} alone, and {IGNORED} "
            f"is ignored: if it stands for {meant}, or name it in data.classes={{merge: ...}}"
        )
    else:
        names = ", ".join(f"{data.classes[label]} ({label})" for label in missing[:_SHOWN])
        more = ", and others" if len(missing) > _SHOWN else ""
        yield (
            f"warning: {len(missing)} of {count} classes occur in no mask of {data.train_split}: "
            f"{names}{more}; add images of them, or leave them out of data.classes"
        )


def _guessed(looked_at: Mapping[Example, _Look]) -> Iterator[str]:
    guessed = sum(look.guessed for look in looked_at.values())
    if not guessed:
        return
    share = guessed / sum(int(look.pixels.sum()) for look in looked_at.values())
    doubt = ": look at them in cp2fast data check" if share > _MANY else ""
    yield (
        f"note: {share:.2%} of the pixels hold a colour or value of no class and were given the "
        f"nearest class, or ignored where none is near (data.nearest=on){doubt}"
    )


def _turned_without_their_masks(looked_at: Mapping[Example, _Look]) -> Iterator[str]:
    turned = [example for example, look in looked_at.items() if look.turned_alone]
    if turned:
        yield (
            f"note: {turned[0].image}{_and_more(len(turned) - 1)} is turned upright by "
            "its metadata, and its mask has none: the mask is taken as of the upright photo"
        )


class _Look(NamedTuple):
    """The findings for a mask and the header of its photo."""

    problem: str | None
    pixels: NDArray[np.int64]
    """Pixel counts by label, 256 values."""
    strange: bool = False
    """Whether the mask holds values of no class, which are refused."""
    guessed: int = 0
    oddity: Oddity = ""
    turned_alone: bool = False
    """Whether metadata rotates the photo but not the mask."""


def _look_at(data: LabelledData, example: Example) -> tuple[_Look, Mapping[int, int]]:
    """The findings, and the pixel counts of values of no class if these are refused."""
    nothing = np.zeros(256, np.int64)
    try:
        found = data.coding.read(example.mask)
        photo = read_file(example.image)
        size = image_size(photo, data.max_pixels)
        if size != found.labels.shape:
            return _Look(differs(example, size, found.labels.shape), nothing), {}
        mask = example.mask
        mask_turned = isinstance(mask, Path) and orientation_of(read_file(mask)) != UPRIGHT
        alone = orientation_of(photo) != UPRIGHT and not mask_turned
    except UserError as error:
        return _Look(str(error), nothing), {}
    except BadImage as bad:
        return _Look(unreadable(example, bad), nothing), {}
    pixels = np.bincount(found.labels.ravel(), minlength=256)
    unknown = found.unknown if data.coding.unknown == "refuse" else {}
    return _Look(None, pixels, bool(unknown), found.guessed, found.oddity, alone), unknown


def _and_more(count: int) -> str:
    return f" (and {count} more like it)" if count else ""
