"""Paths of the files that ``predict`` writes for each photo; nothing is overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cp2fast.data.images import list_images
from cp2fast.errors import UserError


class Outputs(NamedTuple):
    """Paths of the files written for one picture.

    Attributes:
        mask: palette PNG of labels.
        overlay: JPEG of the picture and the labels.
        probabilities: npz file; None if not requested.
    """

    mask: Path
    overlay: Path
    probabilities: Path | None

    def paths(self) -> list[Path]:
        """All paths."""
        return [path for path in self if path is not None]


class Photo(NamedTuple):
    """A file to segment, and the paths of its outputs."""

    path: Path
    outputs: Outputs


def plan_outputs(inputs: Sequence[Path], out: Path, probabilities: bool = False) -> list[Photo]:
    """Plan the output paths for all photos.

    Raises:
        UserError: an input does not exist, or an output is also an input or another output, or
            exists already.
    """
    photos = []
    for given in inputs:
        _refuse_among_photos(out, given)
        if given.is_dir():
            found = list_images(given)
            if found.kind != "folder":
                raise UserError(f"{given} holds {found.kind}: unpack them to predict their images")
            paths = [Path(found.name(number)) for number in range(len(found))]
            places = (out / path.relative_to(given).parent for path in paths)
            photos += [_photo(*both, probabilities) for both in zip(paths, places, strict=True)]
        elif given.is_file():
            photos.append(_photo(given, out, probabilities))
        else:
            raise UserError(f"there is no image or folder {given}")
    taken = {photo.path.resolve(): photo.path for photo in photos}
    for photo in photos:
        for output in photo.outputs.paths():
            other = taken.setdefault(output.resolve(), photo.path)
            if other != photo.path or output.resolve() == photo.path.resolve():
                raise UserError(
                    f"the output {output} of {photo.path} would replace {other} or its output: "
                    "choose another --out, or give them different names"
                )
    _refuse_to_overwrite([file for photo in photos for file in photo.outputs.paths()])
    return photos


def _refuse_among_photos(out: Path, given: Path) -> None:
    """Refuse outputs below a folder that is searched for photos, or beside a named photo."""
    place = out.resolve()
    among = (
        place.is_relative_to(given.resolve()) if given.is_dir() else place == given.resolve().parent
    )
    if among:
        raise UserError(
            f"--out {out} is among the photos of {given}, so that its masks would be taken for "
            "photos next time: choose another folder"
        )


def _refuse_to_overwrite(outputs: Sequence[Path]) -> None:
    there = [file for file in outputs if file.exists()]
    if there:
        more = f" and {len(there) - 1} more outputs exist" if len(there) > 1 else " exists"
        raise UserError(f"{there[0]}{more}; nothing is overwritten: choose another --out")


def _photo(path: Path, folder: Path, probabilities: bool) -> Photo:
    stem = path.stem
    npz = folder / f"{stem}.npz" if probabilities else None
    return Photo(path, Outputs(folder / f"{stem}.png", folder / f"{stem}_overlay.jpg", npz))
