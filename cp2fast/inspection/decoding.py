"""Open a source to inspect some images, without a run folder."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.config import DataSettings
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import Choice
from cp2fast.data.sources.open import open_source


@contextmanager
def opened(
    choice: Choice,
    data: DataSettings,
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    seed: int,
    device: torch.device,
) -> Generator[tuple[Iterator[RaggedBatch], BadImages]]:
    """``open_source`` with any number of bad images accepted; its workers end with the block.

    Yields:
        The batches, and the record of bad images, whose file is deleted after the block.
    """
    with tempfile.TemporaryDirectory() as folder:
        bad = BadImages(Path(folder), max_fraction=1)
        with closing(open_source(choice, data, images, plan, seed, device, bad)) as batches:
            yield batches, bad


def read_bad(bad: BadImages) -> list[str]:
    """The bad images so far: path, a tab, the reason."""
    if bad.path is None or not bad.path.exists():
        return []
    return bad.path.read_bytes().decode(errors="surrogateescape").split("\n")[:-1]
