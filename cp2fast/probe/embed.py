"""``cp2fast embed``: a file with one vector per photo, and a picture of nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.config import Root, root_of
from cp2fast.console import printable
from cp2fast.data.decoding.decode import BadImage, decode_image
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.sources.read_ahead import fetched
from cp2fast.errors import UserError
from cp2fast.files import path_of, refuse_target
from cp2fast.labels.dataset import evenly
from cp2fast.labels.pictures import draw_grid
from cp2fast.probe.features import Extractor
from cp2fast.run_folder import atomic_write
from cp2fast.train.distributed import device_of, ranks_from_environment
from cp2fast.weights.trained import Trained, open_trained

_FORMATS = (".npz", ".parquet")
_MOST_PIXELS = 100_000_000
_QUERIES, _NEIGHBOURS = 6, 5
_THUMBNAIL = 128


@dataclass(frozen=True)
class Embedded:
    """Photos, by number in the data set and by name, and their vectors.

    Attributes:
        vectors: unit vectors, float32 ``[N, C]``; their products are cosines.
        left_out: name and reason of each photo that could not be read.
    """

    numbers: list[int]
    names: list[str]
    vectors: NDArray[np.float32]
    left_out: list[tuple[str, str]] = field(default_factory=list)


def embed(run: str | Path, photos: Root, out: str | Path | None = None) -> Embedded:
    """A vector for each photo: the direction of the mean of its dense unit vectors.

    The whole photo counts as foreground. Its short side is resized to ``model.size`` of the run.

    Args:
        run: run folder or checkpoint of a pretraining.
        photos: folder, tar shards or ``.beton``, or whatever else ``data.root`` may be.
        out: new .npz file for ``names`` and ``vectors``, or .parquet file with the columns ``name``
            and ``vector``; a picture of nearest neighbours is drawn beside it, with the suffix
            ``.png``. None writes nothing.

    Raises:
        UserError: bad input, no photo can be read, or a file exists already; nothing was
            overwritten.
    """
    file = None if out is None else path_of(out)
    if file is not None:
        _check_target(file)
    trained = open_trained(run)
    if trained.is_finetuned:
        raise UserError(
            f"{run} was fine-tuned, which leaves the embedding untrained: name a run of "
            "cp2fast pretrain"
        )
    images = list_images(root_of(photos), "name as PHOTOS")
    found = _embed(trained, images)
    if file is not None:
        write(found, file)
        if len(found.names) > 1:
            draw_neighbours(found, images, trained.levels, picture_of(file))
    return found


def picture_of(out: Path) -> Path:
    """The picture that is drawn beside a file of vectors."""
    return out.with_suffix(".png")


def _embed(trained: Trained, images: ImageSet) -> Embedded:
    device = device_of("auto", ranks_from_environment())
    network = trained.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    extractor = Extractor(network, "embedding", trained.model.size)
    numbers, vectors, left_out = [], [], []
    for number in fetched(images, range(len(images))):
        try:
            image = _decode(images, number, trained.levels)
        except BadImage as bad:
            left_out.append((images.name(number), str(bad)))
            continue
        numbers.append(number)
        vectors.append(instance_vectors(extractor([image]))[0].cpu())
    if not numbers:
        raise UserError(
            f"none of the images can be read ({': '.join(left_out[0])}): there is nothing to embed"
        )
    names = [images.name(number) for number in numbers]
    return Embedded(numbers, names, torch.stack(vectors).numpy(), left_out)


def instance_vectors(embedding_BChw: Tensor) -> Tensor:
    """One unit vector per image, ``[B, C]``, from all positions."""
    return F.normalize(F.normalize(embedding_BChw, dim=1).sum(dim=(2, 3)), dim=1)


def write(found: Embedded, path: Path) -> None:
    """Write ``names`` and ``vectors`` to .npz, or columns ``name`` and ``vector`` to .parquet.

    Parquet holds text: there, bytes of file names that are none become escapes.
    """
    with atomic_write(path) as file:
        if path.suffix == ".npz":
            np.savez_compressed(file, names=np.array(found.names), vectors=found.vectors)
            return
        import pyarrow as pa
        from pyarrow import parquet

        names = [printable(name) for name in found.names]
        table = pa.table({"name": names, "vector": list(found.vectors)})
        parquet.write_table(table, file)


def nearest(
    vectors_NC: NDArray[np.float32], queries: Sequence[int], count: int
) -> NDArray[np.int64]:
    """The ``count`` nearest other vectors by cosine, nearest first: ``[Q, count]``."""
    cosines_QN = torch.from_numpy(vectors_NC[list(queries)] @ vectors_NC.T)
    cosines_QN[range(len(queries)), list(queries)] = -torch.inf
    return cosines_QN.topk(min(count, len(vectors_NC) - 1)).indices.numpy()


def draw_neighbours(found: Embedded, images: ImageSet, levels: Levels, path: Path) -> None:
    """Draw some photos, each with its nearest neighbours; those that are gone by now are grey."""
    queries = evenly(range(len(found.names)), _QUERIES)
    neighbours = nearest(found.vectors, queries, _NEIGHBOURS)
    rows: list[list[NDArray[np.uint8]]] = []
    titles: dict[tuple[int, int], str] = {}
    for row, (query, others) in enumerate(zip(queries, neighbours.tolist(), strict=True)):
        places = [query, *others]
        rows.append([_thumbnail(images, found.numbers[place], levels) for place in places])
        cosines = found.vectors[places] @ found.vectors[query]
        titles |= {(row, column): f"cosine {cosines[column]:.3f}" for column in range(len(places))}
        titles[row, 0] = "photo"
    draw_grid(rows, titles, path, cell=(1.6, 1.6))


def _decode(images: ImageSet, number: int, levels: Levels) -> Tensor:
    return decode_image(images.read(number), _MOST_PIXELS, levels=levels)


def _thumbnail(images: ImageSet, number: int, levels: Levels) -> NDArray[np.uint8]:
    try:
        photo = _decode(images, number, levels)
    except BadImage:
        return np.full((_THUMBNAIL, _THUMBNAIL, 3), 128, np.uint8)
    scale = _THUMBNAIL / max(photo.shape[:2])
    size = [max(1, round(scale * side)) for side in photo.shape[:2]]
    small = F.interpolate(photo.permute(2, 0, 1)[None].float(), size, mode="area")
    return small[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def _check_target(out: Path) -> None:
    if out.suffix not in _FORMATS:
        raise UserError(f"{out}: vectors are written as .npz or .parquet; name it --out FILE.npz")
    refuse_target(out)
    refuse_target(picture_of(out))
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UserError(f"{out}: Parquet needs pyarrow: pip install pyarrow, or name it FILE.npz")
