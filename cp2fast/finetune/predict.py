"""``cp2fast predict``: masks, overlays and probabilities of photos by a fine-tuned network."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cp2fast.config import FinetuneSettings
from cp2fast.console import open_console
from cp2fast.cores import decoding_workers
from cp2fast.data.decode import BadImage, decode_image, read_file
from cp2fast.data.levels import Levels
from cp2fast.data.prefetch import map_ahead
from cp2fast.errors import UserError
from cp2fast.finetune.inference import probability_bands
from cp2fast.finetune.large import Band, open_picture, picture_size, segment_tiles
from cp2fast.finetune.loader import batches_of_one_size
from cp2fast.finetune.outputs import Photo, make_folder, plan_outputs
from cp2fast.finetune.predicted import Classes, write_bands
from cp2fast.model.segmenter import Segmenter
from cp2fast.train.distributed import Ranks, device_of
from cp2fast.train.precision import autocast, dtype_of
from cp2fast.weights.trained import Trained, open_trained
from cp2fast.wording import counted

_AHEAD = 8
_MOST_AT_ONCE = 1 << 27
"""Probabilities that are upsampled at once: half a gigabyte."""


@dataclass(frozen=True)
class Predictor:
    """A network, and how it is asked.

    Attributes:
        network: in evaluation mode, on ``device``.
        settings: settings of its fine-tuning.
        classes: that it knows.
        device: device of this process.
        tile: side of the tiles, in pixels of a photo; None leaves all but huge photos whole.
        wants_probabilities: whether they are written.
    """

    network: Segmenter
    settings: FinetuneSettings
    classes: Classes
    device: torch.device
    tile: int | None
    wants_probabilities: bool

    @property
    def levels(self) -> Levels:
        """What values of more than 8 bits, and more bands than three, become."""
        return Levels.of(self.settings.data.range, self.settings.data.bands)

    @property
    def tile_side(self) -> int:
        """Of huge photos, where none is set: such that a tile is seen at its own size."""
        evaluation = self.settings.evaluation
        return self.tile or evaluation.short_side or self.settings.data.short_side

    def is_tiled(self, size: tuple[int, int]) -> bool:
        """Whether a photo of this height and width is cut into tiles."""
        if size[0] * size[1] > self.settings.data.max_pixels:
            return True
        return self.tile is not None and max(size) > self.tile


def run_predict(
    model: Path,
    inputs: Sequence[Path],
    out: Path,
    probabilities: bool = False,
    tile: int | None = None,
) -> None:
    """Segment every photo at its own size.

    Args:
        model: a fine-tuning's run folder or checkpoint.
        inputs: image files, and folders whose images are taken at any depth.
        out: gets ``NAME.png``, a palette PNG of labels in the colours of the classes, and
            ``NAME_overlay.jpg`` of each photo, in the folders that they were found in.
        probabilities: write ``NAME.npz`` too: ``probabilities`` float16 ``[K, H, W]``, and the
            names of the ``classes``.
        tile: cut photos whose longer side is more into overlapping tiles of so many pixels, each
            segmented as a photo of its own. Photos of more than ``data.max_pixels`` always are.

    Raises:
        UserError: no such model or image, an output that is there already or would replace an
            input, or one that cannot be written; photos that cannot be read are all named at the
            end, after the others are done.
    """
    console = open_console()
    trained, settings = _open(model)
    photos = plan_outputs(inputs, out, probabilities)
    make_folder(out)
    device = device_of("auto", Ranks(0, 1, 0))
    colours = tuple((r, g, b) for r, g, b in trained.facts.get("colours") or ())
    classes = Classes(trained.network.classes, colours)
    predictor = Predictor(
        trained.network.to(device), settings, classes, device, tile, probabilities
    )
    bad: list[str] = []
    tiled = _predict(predictor, photos, bad)
    in_tiles = f", {tiled} of them in tiles of {predictor.tile_side} pixels" if tiled else ""
    console.print(
        f"{counted(len(photos) - len(bad), 'mask')} with overlays in {out}{in_tiles} (palette PNG, "
        f"{len(classes.names)} classes: {', '.join(classes.names)})"
    )
    if len(bad) > 1:
        for line in bad:
            console.print(line)
    if bad:
        more = f" (and {len(bad) - 1} more, all named above)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}; the others were segmented{more}")


def _predict(predictor: Predictor, photos: Sequence[Photo], bad: list[str]) -> int:
    """Write the files of each; returns how many were cut into tiles."""
    tiled = 0
    precision = dtype_of(predictor.settings.train.precision, predictor.device)
    with torch.no_grad(), closing(_read(photos, predictor, bad)) as batches:
        for images, batch in batches:
            with autocast(precision, predictor.device):
                if images[0].numel():
                    _predict_whole(predictor, images, batch)
                    continue
                for photo in batch:
                    tiled += _predict_tiled(predictor, photo, bad)
    return tiled


def _predict_whole(
    predictor: Predictor, images_HW3: Sequence[Tensor], photos: Sequence[Photo]
) -> None:
    """Photos of one size: the network sees each as it is, upsampled by bands that fit."""
    height, width = images_HW3[0].shape[:2]
    of_row = len(photos) * len(predictor.classes.names) * width
    rows = max(1, _MOST_AT_ONCE // of_row)
    images = torch.stack(list(images_HW3)).to(predictor.device)
    bands: list[list[Band]] = [[] for _ in photos]
    top = 0
    for found_BKhw in probability_bands(predictor.network, images, predictor.settings, rows):
        labels = found_BKhw.argmax(dim=1).byte().cpu().numpy()
        kept = found_BKhw.half().cpu().numpy() if predictor.wants_probabilities else None
        for number, image in enumerate(images_HW3):
            part = image[top : top + labels.shape[1]].numpy()
            own = None if kept is None else kept[number]
            bands[number].append(Band(top, part, labels[number], own))
        top += labels.shape[1]
    for photo, own_bands in zip(photos, bands, strict=True):
        _write(photo, (height, width), iter(own_bands), predictor.classes)


def _predict_tiled(predictor: Predictor, photo: Photo, bad: list[str]) -> bool:
    """A photo that is too large; False if it cannot be read."""
    try:
        picture = open_picture(photo.path, predictor.levels)
    except BadImage as error:
        bad.append(f"{photo.path}: {error}")
        return False
    bands = segment_tiles(
        predictor.network,
        picture,
        predictor.settings,
        predictor.tile_side,
        predictor.device,
        predictor.wants_probabilities,
    )
    _write(photo, (picture.shape[0], picture.shape[1]), bands, predictor.classes)
    return True


def _open(path: Path) -> tuple[Trained, FinetuneSettings]:
    """The fine-tuned network of a run folder (its best checkpoint) or checkpoint."""
    trained = open_trained(path)
    if not trained.is_finetuned:
        raise UserError(
            f"{path} is a pretraining and knows no classes: fine-tune it first with "
            f"cp2fast finetune-voc data.root=DIR model.init={path}"
        )
    return trained, FinetuneSettings.model_validate(trained.facts["settings"])


def _read(
    photos: Sequence[Photo], predictor: Predictor, bad: list[str]
) -> Generator[tuple[list[Tensor], list[Photo]], None, None]:
    """Batches of photos of one size; what cannot be read goes to ``bad``.

    One that is to be cut into tiles is not decoded yet: it comes as an image of no pixels.
    """
    settings = predictor.settings

    def decode(photo: Photo) -> tuple[Tensor | str, Photo]:
        try:
            if predictor.is_tiled(picture_size(photo.path)):
                return torch.empty(0, 0, 3, dtype=torch.uint8), photo
            encoded, most = read_file(photo.path), settings.data.max_pixels
            return decode_image(encoded, most, levels=predictor.levels), photo
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


def _write(photo: Photo, size: tuple[int, int], bands: Iterator[Band], classes: Classes) -> None:
    make_folder(photo.outputs.mask.parent)
    try:
        write_bands(photo.outputs, size, bands, classes)
    except OSError as error:
        raise UserError(
            f"cannot write the masks of {photo.path}: {error.strerror or error}; what was written "
            "before is whole"
        ) from error
