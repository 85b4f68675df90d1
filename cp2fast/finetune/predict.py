"""``cp2fast predict``: masks, overlays and probabilities of photos from a fine-tuned network."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.config import FinetuneSettings, root_of
from cp2fast.cores import decoding_workers
from cp2fast.data.decoding.decode import BadImage, decode_image
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.prefetch import map_ahead
from cp2fast.data.sources.read_ahead import fetched
from cp2fast.errors import UserError
from cp2fast.files import make_folder, path_of
from cp2fast.finetune.inference import Band, probability_bands, segment_tiles
from cp2fast.finetune.loader import batches_of_one_size
from cp2fast.finetune.outputs import Classes, Photo, plan_outputs, write_bands
from cp2fast.finetune.picture import open_picture, picture_size
from cp2fast.model.segmenter import Segmenter
from cp2fast.train.distributed import ALONE, device_of
from cp2fast.train.precision import autocast, dtype_of
from cp2fast.weights.trained import Trained, open_trained

_AHEAD = 8
_LEAST_TILE = 32


@dataclass(frozen=True)
class Predictions:
    """What ``predict`` has written.

    Attributes:
        masks: the palette PNG of each photo, by the photo's name.
        unreadable: why a photo could not be read, by its name.
        tiled: number of photos that were cut into tiles.
        tile_side: side of these tiles in pixels of the photo.
    """

    masks: dict[str, Path]
    unreadable: dict[str, str]
    classes: tuple[str, ...]
    tiled: int
    tile_side: int


@dataclass(frozen=True)
class Predictor:
    """A network in evaluation mode, the settings of its fine-tuning, and options.

    Attributes:
        device: device of the network.
        tile: side of the tiles, in pixels of a photo; None tiles only huge photos.
        wants_probabilities: whether probabilities are written.
    """

    network: Segmenter
    settings: FinetuneSettings
    classes: Classes
    device: torch.device
    tile: int | None
    wants_probabilities: bool

    @property
    def levels(self) -> Levels:
        """How images of more than 8 bits or three bands are converted."""
        return Levels.of(self.settings.data.range, self.settings.data.bands)

    @property
    def tile_side(self) -> int:
        """Side of the tiles; the default, for huge photos, is a side that needs no rescaling."""
        evaluation = self.settings.evaluation
        return self.tile or evaluation.short_side or self.settings.data.short_side

    def is_tiled(self, size: tuple[int, int]) -> bool:
        """Whether a photo of this height and width is cut into tiles."""
        if size[0] * size[1] > self.settings.data.max_pixels:
            return True
        return self.tile is not None and max(size) > self.tile


def predict(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    probabilities: bool = False,
    tile: int | None = None,
) -> Predictions:
    """Segment every photo at its own size.

    Args:
        model: run folder or checkpoint of a fine-tuning.
        images: image files, and anything that ``data.root`` may be: folders, which are searched at
            any depth, shards, URLs, patterns and lists; or several of these.
        out: output folder. For each photo, ``NAME.png``, a palette PNG of labels in the colours
            of the classes, and ``NAME_overlay.jpg`` are written, in the same subfolders; those of
            members of a shard in a folder of its name.
        probabilities: also write ``NAME.npz``, with ``probabilities`` float16 ``[K, H, W]`` and
            the names of the ``classes``.
        tile: cut photos whose longer side exceeds this into overlapping tiles of this side in
            pixels, each segmented as a separate photo. Photos of more than ``data.max_pixels``
            are always cut into tiles.

    Raises:
        UserError: the model or an image does not exist, an output exists already, would replace
            an input or cannot be written. Photos that cannot be read do not raise it.
    """
    if tile is not None and tile < _LEAST_TILE:
        raise UserError(f"tile={tile}: must be at least {_LEAST_TILE} pixels")
    folder = path_of(out)
    named = [images] if isinstance(images, str | Path) else images
    inputs = [root_of(one) for one in named]
    trained, settings = _open(path_of(model))
    photos = plan_outputs(inputs, folder, probabilities)
    make_folder(folder)
    device = device_of("auto", ALONE)
    colours = tuple((r, g, b) for r, g, b in trained.facts.get("colours") or ())
    classes = Classes(trained.network.classes, colours)
    predictor = Predictor(
        trained.network.to(device), settings, classes, device, tile, probabilities
    )
    unreadable: dict[str, str] = {}
    tiled = _predict(predictor, photos, unreadable)
    masks = {p.name: p.outputs.mask for p in photos if p.name not in unreadable}
    return Predictions(masks, unreadable, classes.names, tiled, predictor.tile_side)


def _predict(predictor: Predictor, photos: Sequence[Photo], bad: dict[str, str]) -> int:
    """Write the files of each photo; returns how many photos were cut into tiles."""
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
    """Segment photos of one size as a whole, upsampling in bands that fit into memory."""
    images = torch.stack(list(images_HW3)).to(predictor.device)
    found = probability_bands(predictor.network, images, predictor.settings)
    for photo, image, probabilities in zip(photos, images_HW3, found, strict=True):
        bands = _bands(image.numpy(), probabilities, predictor.wants_probabilities)
        with _writing(photo):
            height, width = image.shape[:2]
            write_bands(photo.outputs, (height, width), bands, predictor.classes)


def _bands(
    image_HW3: NDArray[np.uint8], probabilities: Iterator[Tensor], wants_probabilities: bool
) -> Iterator[Band]:
    top = 0
    for found_KhW in probabilities:
        bottom = top + found_KhW.shape[1]
        labels = found_KhW.argmax(dim=0).byte().cpu().numpy()
        kept = found_KhW.half().cpu().numpy() if wants_probabilities else None
        yield Band(top, image_HW3[top:bottom], labels, kept)
        top = bottom


def _predict_tiled(predictor: Predictor, photo: Photo, bad: dict[str, str]) -> bool:
    """Segment a photo in tiles; False if it cannot be read."""
    try:
        with _writing(photo):
            picture = open_picture(photo, predictor.levels)
            bands = segment_tiles(
                predictor.network,
                picture,
                predictor.settings,
                predictor.tile_side,
                predictor.device,
                predictor.wants_probabilities,
            )
            height, width = picture.shape[:2]
            write_bands(photo.outputs, (height, width), bands, predictor.classes)
    except BadImage as error:
        bad[photo.name] = str(error)
        return False
    return True


def _open(path: Path) -> tuple[Trained, FinetuneSettings]:
    """Open the fine-tuned network of a run folder (its best checkpoint) or a checkpoint."""
    trained = open_trained(path)
    if not trained.is_finetuned:
        raise UserError(
            f"{path} is a pretraining and knows no classes: fine-tune it first with "
            f"cp2fast finetune-voc data.root=DIR {quote(f'model.init={path}')}"
        )
    return trained, FinetuneSettings.model_validate(trained.facts["settings"])


def _read(
    photos: Sequence[Photo], predictor: Predictor, bad: dict[str, str]
) -> Generator[tuple[list[Tensor], list[Photo]], None, None]:
    """Yield batches of photos of one size; photos that cannot be read are added to ``bad``.

    A photo that will be cut into tiles is not decoded here; it is yielded as an empty image.
    """
    settings = predictor.settings

    def decode(photo: Photo) -> tuple[Tensor | str, Photo]:
        try:
            if predictor.is_tiled(picture_size(photo)):
                return torch.empty(0, 0, 3, dtype=torch.uint8), photo
            most = settings.data.max_pixels
            return decode_image(photo.read(), most, levels=predictor.levels), photo
        except BadImage as error:
            return str(error), photo

    def readable() -> Generator[tuple[Tensor, Photo], None, None]:
        threads = decoding_workers(settings.data.workers)
        with closing(map_ahead(decode, _brought(photos), threads=threads, ahead=_AHEAD)) as decoded:
            for image, photo in decoded:
                if isinstance(image, str):
                    bad[photo.name] = image
                else:
                    yield image, photo

    with closing(readable()) as pairs:
        for batch in batches_of_one_size(pairs, settings.data.batch_size):
            images, of = zip(*batch, strict=True)
            yield list(images), list(of)


def _brought(photos: Sequence[Photo]) -> Iterator[Photo]:
    """The photos, each yielded once it is on this machine."""
    for _, group in groupby(photos, lambda photo: id(photo.images)):
        of_one_set = {photo.number: photo for photo in group}
        images = next(iter(of_one_set.values())).images
        yield from (of_one_set[number] for number in fetched(images, list(of_one_set)))


@contextmanager
def _writing(photo: Photo) -> Iterator[None]:
    """Create the folder of a photo's outputs; errors of writing become a UserError."""
    make_folder(photo.outputs.mask.parent)
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the masks of {photo.name}: {error.strerror or error}; what was written "
            "before is whole"
        ) from error
