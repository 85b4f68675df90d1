"""The files that ``predict`` writes for each photo: a palette mask, an overlay, and probabilities.

Nothing is overwritten. Results arrive in bands of rows and are collected in mapped files, so only
one band needs memory. Each file appears once it is complete.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cp2fast.config import Rgb, Root
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import is_container, list_images
from cp2fast.data.image_sets.roots import places, shown
from cp2fast.data.remote.urls import is_url
from cp2fast.errors import UserError
from cp2fast.files import place_of
from cp2fast.finetune.inference import Band
from cp2fast.labels.classes import palette_of
from cp2fast.labels.pictures import overlay
from cp2fast.run_folder import LONGEST_NAME, atomic_write

Scalar = TypeVar("Scalar", bound=np.generic)

OVERLAY_SIDE = 8192
"""Longest side of an overlay in pixels; overlays of larger pictures are reduced."""


class Outputs(NamedTuple):
    """Paths of a picture's palette PNG of labels, overlay (JPEG) and, if requested, npz file."""

    mask: Path
    overlay: Path
    probabilities: Path | None

    def paths(self) -> list[Path]:
        """Those that are requested."""
        return [path for path in self if path is not None]


class Photo(NamedTuple):
    """A picture to segment, by its number in a data set, and the paths of its outputs."""

    images: ImageSet
    number: int
    outputs: Outputs

    @property
    def name(self) -> str:
        """Its path or URL, or SHARD/MEMBER, for messages."""
        return self.images.name(self.number)

    @property
    def path(self) -> Path | None:
        """Its file; None for a member of a shard and for a remote picture."""
        return self.images.own_file(self.number)

    def read(self) -> bytes:
        """The encoded picture. Raises BadImage."""
        return self.images.read(self.number)


class Classes(NamedTuple):
    """Names and colours by label; VOC's colours if there are none."""

    names: tuple[str, ...]
    colours: tuple[Rgb, ...]


def plan_outputs(inputs: Sequence[Root], out: Path, probabilities: bool = False) -> list[Photo]:
    """Plan the output paths for all photos.

    Below ``out`` they mirror the folders of the photos below their root, or below the common folder
    of all photos of a pattern or a list.

    Raises:
        UserError: an input does not exist, or an output is also an input or another output, or
            exists already.
    """
    photos = []
    for given in inputs:
        _refuse_among_photos(out, given)
        images = _pictures(given)
        for number, place in enumerate(_places(images, given)):
            photos.append(Photo(images, number, _outputs(out / place, probabilities)))
    _check_outputs(photos)
    return photos


def _pictures(given: Root) -> ImageSet:
    """The pictures of an input; a single file is one, whatever its suffix."""
    if isinstance(given, Path) and not is_container(given.name) and place_of(given) == "file":
        return ImageSet.of_files([given])
    return list_images(given, "name as PHOTOS")


def _places(images: ImageSet, given: Root) -> list[PurePosixPath]:
    """Each picture's path relative to its root, without parts that lead out of it."""
    names = [images.name(number) for number in range(len(images))]
    names = [name.partition("?")[0] if is_url(name) else name for name in names]
    root = f"{shown(given).rstrip('/')}/"
    if not all(name.startswith(root) for name in names):
        # What the first and the last name in order have in common, all have in common.
        low, high = (name.split("/")[:-1] for name in (min(names), max(names)))
        shared = takewhile(lambda both: both[0] == both[1], zip(low, high, strict=False))
        root = "".join(f"{part}/" for part, _ in shared)
    inner = (PurePosixPath(name.removeprefix(root)).parts for name in names)
    return [PurePosixPath(*(part for part in parts if part not in ("..", "/"))) for parts in inner]


def _refuse_among_photos(out: Path, given: Root) -> None:
    """Refuse outputs below a folder that is searched for photos, or beside a named photo."""
    own, beside = out.resolve(), dict[str, str]()
    for place in places(given):
        if is_url(place.path) or is_container(place.path):
            continue
        if place.origin != "listed" and os.path.isdir(place.path):
            if own.is_relative_to(Path(place.path).resolve()):
                raise _among(out, place.path)
        else:
            beside.setdefault(os.path.dirname(place.path), place.path)
    for folder, photo in beside.items():
        if own == Path(folder).resolve():
            raise _among(out, photo)


def _among(out: Path, given: str) -> UserError:
    return UserError(
        f"--out {out} is among the photos of {given}, so that its masks would be taken for "
        "photos next time: choose another folder"
    )


def _check_outputs(photos: Sequence[Photo]) -> None:
    taken = {photo.path.resolve(): photo.name for photo in photos if photo.path is not None}
    for photo in photos:
        own = None if photo.path is None else photo.path.resolve()
        for output in photo.outputs.paths():
            if len(os.fsencode(output.name)) > LONGEST_NAME:
                raise UserError(
                    f"{photo.name}: its output {output.name} would have a name of more than "
                    f"{LONGEST_NAME} bytes: shorten the photo's"
                )
            other = taken.setdefault(output.resolve(), photo.name)
            if other != photo.name or output.resolve() == own:
                raise UserError(
                    f"the output {output} of {photo.name} would replace {other} or its output: "
                    "choose another --out, or give them different names"
                )
    folders = {folder: photo.name for photo in photos for folder in photo.outputs.mask.parents}
    for folder, name in folders.items():
        of = taken.get(folder.resolve())
        if of is not None:
            raise UserError(
                f"the folder {folder} of the outputs of {name} would replace {of} or its "
                "output: choose another --out, or give them different names"
            )
    there = [file for photo in photos for file in photo.outputs.paths() if file.exists()]
    if there:
        more = f" and {len(there) - 1} more outputs exist" if len(there) > 1 else " exists"
        raise UserError(f"{there[0]}{more}; nothing is overwritten: choose another --out")


def _outputs(place: Path, probabilities: bool) -> Outputs:
    stem, folder = place.stem, place.parent
    npz = folder / f"{stem}.npz" if probabilities else None
    return Outputs(folder / f"{stem}.png", folder / f"{stem}_overlay.jpg", npz)


def write_bands(
    outputs: Outputs, size: tuple[int, int], bands: Iterator[Band], classes: Classes
) -> None:
    """Write all files of a picture from its bands; their folder exists.

    Raises:
        OSError: a file cannot be written; the mask, which is written last, does not exist then.
    """
    folder, step = outputs.mask.parent, -(-max(size) // OVERLAY_SIDE)
    labels = mapped(folder, np.uint8, size)
    kept = None
    if outputs.probabilities is not None:
        kept = mapped(folder, np.float16, (len(classes.names), *size))
    mixed: list[NDArray[np.uint8]] = []
    for band in bands:
        rows = slice(band.top, band.top + len(band.labels))
        labels[rows] = band.labels
        if kept is not None and band.probabilities is not None:
            kept[:, rows] = band.probabilities
        thin = slice(-band.top % step, None, step), slice(None, None, step)
        mixed.append(overlay(band.image[thin], band.labels[thin], classes.colours))
    _write_image(outputs.overlay, Image.fromarray(np.concatenate(mixed)), "JPEG", quality=92)
    if outputs.probabilities is not None and kept is not None:
        with atomic_write(outputs.probabilities) as file:
            np.savez_compressed(file, probabilities=kept, classes=np.array(classes.names))
    mask = Image.fromarray(labels)
    mask.putpalette(palette_of(classes.colours).tobytes())
    _write_image(outputs.mask, mask, "PNG")


def _write_image(path: Path, image: Image.Image, kind: str, **options: int) -> None:
    encoded = io.BytesIO()  # Pillow's own writing to a full disk does not say why it failed
    image.save(encoded, format=kind, **options)
    with atomic_write(path) as file:
        file.write(encoded.getbuffer())


def mapped(folder: Path, dtype: type[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
    """A new array in a temporary file of ``folder``, for what need not fit into memory.

    All its room on the disk is taken at once: a disk that becomes full while the array is filled
    would kill the process (SIGBUS). The file is gone with the array.

    Raises:
        OSError: the disk has no room for it.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape) * np.dtype(dtype).itemsize))
        array: np.memmap[Any, np.dtype[Scalar]] = np.memmap(file, dtype, "r+", shape=shape)
    return array
