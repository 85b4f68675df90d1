"""``cp2fast predict``: masks and overlays of photos by a fine-tuned network."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cp2fast.config import FinetuneSettings
from cp2fast.console import open_console
from cp2fast.cores import decoding_workers
from cp2fast.data.decode import BadImage, decode_image, read_file
from cp2fast.data.images import list_images
from cp2fast.data.levels import Levels
from cp2fast.data.prefetch import map_ahead
from cp2fast.data.scenes import voc_palette
from cp2fast.errors import UserError
from cp2fast.finetune.inference import segment
from cp2fast.finetune.loader import batches_of_one_size
from cp2fast.finetune.pictures import overlay
from cp2fast.run_folder import atomic_write
from cp2fast.train.distributed import Ranks, device_of
from cp2fast.train.precision import autocast, dtype_of
from cp2fast.weights.trained import Trained, open_trained
from cp2fast.wording import counted

_AHEAD = 8


class Photo(NamedTuple):
    """A file to segment, and where its mask and its overlay go."""

    path: Path
    mask: Path
    overlay: Path


def run_predict(model: Path, inputs: Sequence[Path], out: Path) -> None:
    """Segment every photo at its own size.

    Args:
        model: a fine-tuning's run folder or checkpoint.
        inputs: image files, and folders whose images are taken at any depth.
        out: gets ``NAME.png``, a palette PNG of labels, and ``NAME_overlay.jpg`` of each photo,
            in the folders that they were found in.

    Raises:
        UserError: no such model or image, an output that is there already or would replace an
            input, or one that cannot be written; photos that cannot be read are all named at the
            end, after the others are done.
    """
    console = open_console()
    trained, settings = _open(model)
    photos = plan_outputs(inputs, out)
    _make(out)
    device = device_of("auto", Ranks(0, 1, 0))
    network, classes = trained.network.to(device), trained.network.classes
    precision = dtype_of(settings.train.precision, device)
    bad: list[str] = []
    with torch.no_grad(), closing(_read(photos, settings, bad)) as batches:
        for images, batch in batches:
            with autocast(precision, device):
                labels = segment(network, torch.stack(images).to(device), settings)
            for image, photo, label in zip(images, batch, labels.byte().cpu(), strict=True):
                _write(photo, image, label)
    console.print(
        f"{counted(len(photos) - len(bad), 'mask')} with overlays in {out} (palette PNG, "
        f"{len(classes)} classes: {', '.join(classes)})"
    )
    if len(bad) > 1:
        for line in bad:
            console.print(line)
    if bad:
        more = f" (and {len(bad) - 1} more, all named above)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}; the others were segmented{more}")


def _open(path: Path) -> tuple[Trained, FinetuneSettings]:
    """The fine-tuned network of a run folder (its best checkpoint) or checkpoint."""
    trained = open_trained(path)
    if not trained.is_finetuned:
        raise UserError(
            f"{path} is a pretraining and knows no classes: fine-tune it first with "
            f"cp2fast finetune-voc data.root=DIR model.init={path}"
        )
    return trained, FinetuneSettings.model_validate(trained.facts["settings"])


def plan_outputs(inputs: Sequence[Path], out: Path) -> list[Photo]:
    """Where the outputs of each photo go.

    Raises:
        UserError: an input that is not there, or an output that is an input, another's output or
            there already.
    """
    photos = []
    for given in inputs:
        _refuse_among_photos(out, given)
        if given.is_dir():
            found = list_images(given)
            if found.kind != "folder":
                raise UserError(f"{given} holds {found.kind}: unpack them to predict their images")
            paths = [Path(found.name(number)) for number in range(len(found))]
            photos += [_photo(path, out / path.relative_to(given).parent) for path in paths]
        elif given.is_file():
            photos.append(_photo(given, out))
        else:
            raise UserError(f"there is no image or folder {given}")
    taken = {photo.path.resolve(): photo.path for photo in photos}
    for photo in photos:
        for output in (photo.mask, photo.overlay):
            other = taken.setdefault(output.resolve(), photo.path)
            if other != photo.path or output.resolve() == photo.path.resolve():
                raise UserError(
                    f"the output {output} of {photo.path} would replace {other} or its output: "
                    "choose another --out, or give them different names"
                )
    _refuse_to_overwrite([file for photo in photos for file in (photo.mask, photo.overlay)])
    return photos


def _refuse_among_photos(out: Path, given: Path) -> None:
    """Masks below a folder that is searched, or beside a photo that is named."""
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


def _photo(path: Path, folder: Path) -> Photo:
    return Photo(path, folder / f"{path.stem}.png", folder / f"{path.stem}_overlay.jpg")


def _read(
    photos: Sequence[Photo], settings: FinetuneSettings, bad: list[str]
) -> Generator[tuple[list[Tensor], list[Photo]], None, None]:
    """Batches of photos of one size; what cannot be read goes to ``bad``."""
    levels = Levels.of(settings.data.range, settings.data.bands)

    def decode(photo: Photo) -> tuple[Tensor | str, Photo]:
        try:
            encoded, most = read_file(photo.path), settings.data.max_pixels
            return decode_image(encoded, most, levels=levels), photo
        except BadImage as error:
            return f"{photo.path}: {error}", photo

    def readable() -> Generator[tuple[Tensor, Photo], None, None]:
        threads = decoding_workers(settings.data.workers)
        with closing(map_ahead(decode, photos, threads=threads, ahead=_AHEAD)) as decoded:
            for image, photo in decoded:
                if isinstance(image, str):
                    bad.append(image)
                else:
                    yield image, photo

    with closing(readable()) as pairs:
        for batch in batches_of_one_size(pairs, settings.data.batch_size):
            images, of = zip(*batch, strict=True)
            yield list(images), list(of)


def _write(photo: Photo, image_HW3: Tensor, labels_HW: Tensor) -> None:
    mask = Image.fromarray(labels_HW.numpy())
    mask.putpalette(voc_palette())
    mixed = overlay(image_HW3.numpy(), labels_HW.numpy().astype(np.uint8))
    _make(photo.mask.parent)
    try:
        with atomic_write(photo.mask) as file:
            mask.save(file, format="PNG")
        with atomic_write(photo.overlay) as file:
            Image.fromarray(mixed).save(file, format="JPEG", quality=92)
    except OSError as error:
        raise UserError(
            f"cannot write the masks of {photo.path}: {error.strerror or error}; what was written "
            "before is whole"
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {folder}: {error.strerror or error}; choose another --out"
        ) from error
