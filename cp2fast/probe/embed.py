"""``cp2fast embed``: a file with one vector per photo, and a picture of nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from cp2fast.config import Root
from cp2fast.data.decode import BadImage, decode_image, read_image
from cp2fast.data.image_set import ImageSet
from cp2fast.data.images import list_images
from cp2fast.data.levels import Levels
from cp2fast.data.read_ahead import brought
from cp2fast.errors import UserError
from cp2fast.model.segmenter import Segmenter
from cp2fast.probe.features import dense_features, prepare
from cp2fast.probe.labelled import evenly
from cp2fast.run_folder import atomic_write
from cp2fast.train.distributed import device_of, ranks_from_environment
from cp2fast.weights.trained import Trained, open_trained
from cp2fast.wording import counted

_FORMATS = (".npz", ".parquet")
_MOST_PIXELS = 100_000_000
_QUERIES, _NEIGHBOURS = 6, 5
_THUMBNAIL = 128


@dataclass(frozen=True)
class Embedded:
    """Photos and their vectors.

    Attributes:
        numbers: numbers of the photos in the data set.
        names: paths, or names of members of a shard.
        vectors: unit vectors, float32 ``[N, C]``.
    """

    numbers: list[int]
    names: list[str]
    vectors: NDArray[np.float32]


def run_embed(run: str, photos: Root, out: Path) -> None:
    """Write the instance vector of each photo to ``out``, and a picture beside it.

    Args:
        run: run folder or checkpoint of a pretraining.
        photos: anything that ``data.root`` may be.
        out: new file, ``.npz`` or ``.parquet``.

    Raises:
        UserError: bad input, or a file exists already; nothing was overwritten.
    """
    picture = out.with_suffix(".png")
    _check_target(out, picture)
    trained = open_trained(run)
    _check_embeds(trained, run)
    images = list_images(photos, "name as PHOTOS")
    console = Console(soft_wrap=True, highlight=False)
    found = embed(trained, images, console)
    write(found, out)
    console.print(f"wrote {counted(len(found.names), 'vector')} to {out}", markup=False)
    if len(found.names) > 1:
        draw_neighbours(found, images, trained.levels, picture)
        console.print(f"wrote {picture}", markup=False)


def embed(trained: Trained, images: ImageSet, console: Console) -> Embedded:
    """The instance vector of each image: the direction of the mean of its dense unit vectors.

    The whole image counts as foreground. Its short side is resized to ``model.size`` of the run.

    Args:
        trained: a pretrained network.
        images: images to embed; unreadable ones are named and left out.
        console: prints for the user.

    Raises:
        UserError: no image can be read.
    """
    device = device_of("auto", ranks_from_environment())
    network = trained.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    numbers, vectors = [], []
    for number, image in _readable(images, trained.levels, console):
        inputs = prepare([image], trained.model.size, network, device)
        numbers.append(number)
        vectors.append(instance_vector(network, inputs)[0].cpu())
    if not numbers:
        raise UserError("none of the images can be read: there is nothing to embed")
    names = [images.name(number) for number in numbers]
    return Embedded(numbers, names, torch.stack(vectors).numpy())


def instance_vector(network: Segmenter, images_B3HW: Tensor) -> Tensor:
    """One unit vector per image, ``[B, C]``, from all positions."""
    dense_BChw = F.normalize(dense_features(network, images_B3HW, "embedding"), dim=1)
    return F.normalize(dense_BChw.sum(dim=(2, 3)), dim=1)


def write(found: Embedded, path: Path) -> None:
    """Write ``names`` and ``vectors`` to .npz, or columns ``name`` and ``vector`` to .parquet."""
    with atomic_write(path) as file:
        if path.suffix == ".npz":
            np.savez_compressed(file, names=np.array(found.names), vectors=found.vectors)
            return
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table({"name": found.names, "vector": list(found.vectors)})
        parquet.write_table(table, file)


def nearest(
    vectors_NC: NDArray[np.float32], queries: Sequence[int], count: int
) -> NDArray[np.int64]:
    """The ``count`` nearest other vectors by cosine, nearest first: ``[Q, count]``."""
    cosines_QN = torch.from_numpy(vectors_NC[list(queries)] @ vectors_NC.T)
    cosines_QN[range(len(queries)), list(queries)] = -torch.inf
    return cosines_QN.topk(min(count, len(vectors_NC) - 1)).indices.numpy()


def draw_neighbours(found: Embedded, images: ImageSet, levels: Levels, path: Path) -> None:
    """Draw some photos, each with its nearest neighbours."""
    queries = evenly(range(len(found.names)), _QUERIES)
    neighbours = nearest(found.vectors, queries, _NEIGHBOURS)
    columns = neighbours.shape[1] + 1
    figure = Figure(figsize=(1.6 * columns, 1.6 * len(queries) + 0.4), layout="constrained")
    axes = figure.subplots(len(queries), columns, squeeze=False)
    for row, query, others in zip(axes, queries, neighbours, strict=True):
        for axis, place in zip(row, [query, *others], strict=True):
            axis.imshow(_thumbnail(images, found.numbers[place], levels))
            axis.set_axis_off()
            cosine = float(found.vectors[query] @ found.vectors[place])
            axis.set_title("photo" if place == query else f"{cosine:.3f}", fontsize=7)
    figure.suptitle("Photos, and those with the nearest vectors: cosine", fontsize=9)
    FigureCanvasAgg(figure)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)


def _readable(images: ImageSet, levels: Levels, console: Console) -> Iterator[tuple[int, Tensor]]:
    for number in brought(images, range(len(images))):
        try:
            yield number, decode_image(read_image(images, number), _MOST_PIXELS, levels=levels)
        except BadImage as bad:
            console.print(f"left out {images.name(number)}: {bad}", markup=False)


def _thumbnail(images: ImageSet, number: int, levels: Levels) -> NDArray[np.uint8]:
    photo = decode_image(read_image(images, number), _MOST_PIXELS, levels=levels)
    scale = _THUMBNAIL / max(photo.shape[:2])
    size = [max(1, round(scale * side)) for side in photo.shape[:2]]
    small = F.interpolate(photo.permute(2, 0, 1)[None].float(), size, mode="area")
    return small[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def _check_target(out: Path, picture: Path) -> None:
    if out.suffix not in _FORMATS:
        raise UserError(f"{out}: vectors are written as .npz or .parquet; name it --out FILE.npz")
    for path in (out, picture):
        if path.exists():
            raise UserError(f"{path} exists already: remove it, or name another file with --out")
    if not out.absolute().parent.is_dir():
        raise UserError(f"there is no folder {out.parent} for {out.name}: make it first")
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UserError(f"{out}: Parquet needs pyarrow: pip install pyarrow, or name it FILE.npz")


def _check_embeds(trained: Trained, run: str) -> None:
    if trained.is_finetuned:
        raise UserError(
            f"{run} was fine-tuned, which leaves the embedding untrained: name a run of "
            "cp2fast pretrain"
        )
