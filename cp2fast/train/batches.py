"""From image files to composed batches on the device of the network."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import torch

from cp2fast.batch import CopyPasteBatch, RaggedBatch
from cp2fast.config import DataSettings, LabelledDataSettings, PretrainSettings
from cp2fast.copypaste.draw import draw
from cp2fast.copypaste.op import copy_paste
from cp2fast.data.scenes import generate_scenes

DEMO_DATA = Path("demo-data")
_DEMO_SEED = 0


def data_root(settings: DataSettings | LabelledDataSettings) -> Path:
    """The folder of images; where none is named, the demo scenes, generated once."""
    if settings.root is not None:
        return settings.root
    if not DEMO_DATA.exists():
        generate_scenes(DEMO_DATA, settings.scenes, _DEMO_SEED)
    return DEMO_DATA


def compose(
    batches: Iterator[RaggedBatch],
    settings: PretrainSettings,
    seed: int,
    start: int,
    steps_per_epoch: int,
    device: torch.device,
) -> Generator[CopyPasteBatch, None, None]:
    """Draw and paste each decoded batch and bring it to ``device``; the first is step ``start``."""
    for step, batch in enumerate(batches, start):
        epoch = step // steps_per_epoch
        size = settings.model.size
        parameters = draw(seed, epoch, batch, size, settings.data.background)
        yield copy_paste(batch, parameters, size).to(device)
