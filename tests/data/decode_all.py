"""Every image of a folder as every source decodes it; for a process that may die of it."""

from __future__ import annotations

import pickle
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.data.decoding import jpeg
from cp2fast.data.decoding.decode import BadImage, image_size
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.packing.packed_jpeg import PackedJpeg
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.dali_source import open_dali
from cp2fast.data.sources.loading import DecodeSettings
from cp2fast.data.sources.torch_source import open_torch
from cp2fast.data.sources.turbo_source import open_turbo
from tests.data.betons import write_beton

BATCH = 100
LIMIT = 1_000_000


def main(name: str) -> None:
    """Write ``FOLDER.pickle``."""
    folder = Path(name)
    names = sorted(path.name for path in folder.iterdir())
    files = list_images(folder)
    shard = folder.with_suffix(".tar")
    with tarfile.open(shard, "w") as tar:
        for name in names:
            tar.add(folder / name, name)
    packed = {name: _packed(folder / name) for name in names}
    of_beton = {name: image for name, image in packed.items() if image is not None}
    beton = write_beton(folder.with_suffix(".beton"), list(of_beton.values()))
    sizes = {}
    for name in names:
        try:
            sizes[name] = image_size((folder / name).read_bytes(), LIMIT)
        except BadImage as bad:
            sizes[name] = str(bad)
    seen = {
        "dali, files": _decoded(open_dali, files, names, threads=1, gpu=None),
        "turbo, files": _decoded(open_turbo, files, names, threads=1),
        "torch, a shard": _decoded(open_torch, list_images(shard), names, workers=0),
        "turbo, a .beton": _decoded(
            open_turbo, ImageSet.of_beton(beton), list(of_beton), threads=1
        ),
        "torch, a .beton": _decoded(
            open_torch, ImageSet.of_beton(beton), list(of_beton), workers=0
        ),
    }
    folder.with_suffix(".pickle").write_bytes(pickle.dumps((sizes, seen)))


def _packed(path: Path) -> PackedJpeg | None:
    """What FFCV's own writer makes of a common JPEG: it keeps the bytes, metadata and all."""
    encoded = path.read_bytes()
    header = jpeg.read_header(encoded) if encoded.startswith(jpeg.SIGNATURE) else None
    if header is None or not header.is_common:
        return None
    return PackedJpeg(encoded, header.height, header.width)


def _decoded(
    opener: Callable[..., Iterator[RaggedBatch]],
    images: ImageSet,
    names: list[str],
    **options: object,
) -> dict[str, NDArray[np.uint8] | str]:
    """Pixels by name; of a bad image the reason."""
    found: dict[str, NDArray[np.uint8] | str] = {}
    with tempfile.TemporaryDirectory() as place:
        bad = BadImages(Path(place), 1.0)
        for batch in opener(images, _plan(len(names)), DecodeSettings(0, LIMIT), bad, **options):
            for position, number in enumerate(batch.index.tolist()):
                found[names[number]] = batch.image(position).numpy().copy()
        if bad.path.exists():
            reasons = bad.path.read_text(errors="surrogateescape").splitlines()
            found |= {Path(line.partition("\t")[0]).name: line for line in reasons}
    return found


def _plan(count: int) -> Iterator[NDArray[np.int64]]:
    for begin in range(0, count, BATCH):
        yield np.arange(begin, begin + BATCH) % count
