"""The first pairs of a run, with everything they were made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cp2fast.batch import CopyPasteBatch, RaggedBatch
from cp2fast.config import MIN_IMAGES_FOR_BATCH_BACKGROUNDS, AugmentSettings, PretrainSettings
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.cores import available_cores
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.image_sets.roots import shown
from cp2fast.data.order import plan
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.scenes import data_root
from cp2fast.data.sources.choice import Choice, choose_source
from cp2fast.data.survey import find_range
from cp2fast.data.windows import windows
from cp2fast.errors import UserError
from cp2fast.inspection.decoding import opened, read_bad

_FEWEST_PAIRS = 8
"""Enough pairs for backgrounds of the same batch to differ between pairs."""


@dataclass(frozen=True)
class Pairs:
    """Composed pairs on the CPU.

    Attributes:
        images: number of images in the data set.
        names: file of each decoded image, relative to ``root``.
        source: source that decoded them.
        bad: images that could not be read and were replaced, with the reason, one per line.
        composed: input of the network.
        range_line: line that states the range of values, if it was found.
    """

    root: str
    images: int
    names: list[str]
    source: Choice
    bad: list[str]
    decoded: RaggedBatch
    parameters: Parameters
    composed: CopyPasteBatch
    augment: AugmentSettings
    range_line: str = ""

    def __len__(self) -> int:
        return len(self.composed)


def first_pairs(settings: PretrainSettings, count: int) -> Pairs:
    """The first pairs of epoch 0 of a run with these settings.

    Foregrounds, crops and colours are those of the run. Backgrounds from the same batch are taken
    from these pairs instead of the run's whole batch, so that fewer images are decoded. With
    windows of shards, the pairs are of the run's first images, sorted by shard as each batch is.

    Args:
        settings: as for a run; decoding uses one thread of this process.
        count: number of pairs; there are more if they need each other's backgrounds, and fewer
            if there are fewer images.

    Raises:
        UserError: bad input; nothing was written except the demo data.
    """
    data, seed, size = settings.data, settings.train.seed, settings.model.size
    data = data.model_copy(update={"workers": 0})
    root = data_root(data)
    images = list_images(root, disk=DiskCache.of(data))
    range_, range_line = find_range(
        images, data.range, data.bands, data.max_pixels, available_cores()
    )
    data = data.model_copy(update={"range": range_})
    on_gpu = data.decode in ("gpu", "both") and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    independent = data.background == "independent"
    if len(images) < MIN_IMAGES_FOR_BATCH_BACKGROUNDS:
        raise UserError(
            f"{shown(root)} holds {len(images)} images, and a pair is made of "
            f"{MIN_IMAGES_FOR_BATCH_BACKGROUNDS}: add more"
        )
    steps = plan(
        seed=seed,
        count=len(images),
        batch_size=min(count if independent else max(count, _FEWEST_PAIRS), len(images)),
        stop=1,
        independent=independent,
        order=data.order,
        windows=windows(data, images),
    )
    source = choose_source(data, images, device)
    with opened(source, data, images, steps, seed, device) as (batches, bad):
        decoded = next(batches)
        listed = read_bad(bad)
    augment = settings.augment
    parameters = sample_parameters(seed, 0, decoded, size, data.background, augment)
    composed = copy_paste(decoded, parameters, size, mean=augment.mean, std=augment.std)
    return Pairs(
        root=shown(root),
        images=len(images),
        names=[images.short_name(i, root) for i in decoded.index.tolist()],
        source=source,
        bad=listed,
        decoded=decoded.to(torch.device("cpu")),
        parameters=parameters,
        composed=composed.to(torch.device("cpu")),
        augment=augment,
        range_line=range_line,
    )


def displayable(image_3SS: Tensor, augment: AugmentSettings) -> Tensor:
    """A composed image for display: float32 ``[S, S, 3]`` in [0, 1]."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (augment.mean, augment.std))
    return (image_3SS.float().cpu() * std + mean).clamp(0, 1).permute(1, 2, 0)
