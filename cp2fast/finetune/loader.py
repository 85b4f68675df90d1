"""Labelled images, decoded ahead in an order determined by the seed.

plan -> threads or workers: read, decode, cut -> crops of a batch -> device: assemble
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice, tee
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, FinetuneSettings
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.prefetch import map_ahead
from cp2fast.finetune.augment import Crop, assemble
from cp2fast.finetune.crop_workers import Place, crops_of_workers, read_crop
from cp2fast.labels.dataset import Example, LabelledData, read_example
from cp2fast.train.batches import Made
from cp2fast.train.distributed import ALONE, Ranks

Result = TypeVar("Result")

_BATCHES_AHEAD = 2
_IMAGES_AHEAD = 8


class CropBatch(NamedTuple):
    """A training batch: normalised images ``[B, 3, S, S]`` and uint8 labels ``[B, S, S]``."""

    images: Tensor
    labels: Tensor


def crop_batches(
    data: LabelledData,
    settings: FinetuneSettings,
    steps: range,
    device: torch.device,
    ranks: Ranks = ALONE,
    apart: bool = False,
) -> Made[CropBatch]:
    """The batches of ``steps``, ``train.gradient_accumulation_steps`` per step, on ``device``.

    With ``apart`` their images are read and cut in processes of their own.

    Raises:
        UserError: an image or a mask cannot be used, or there are fewer images than a step needs.
    """
    size, seed, model = settings.data.batch_size, settings.train.seed, settings.model
    of_step = size * settings.train.gradient_accumulation_steps
    per_epoch = steps_per_epoch(len(data.train), of_step * ranks.world_size)
    order = plan(
        seed=seed,
        count=len(data.train),
        batch_size=of_step,
        start=steps.start,
        stop=steps.stop,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    batches_of_places = (
        [Place(step // per_epoch, number) for number in part]
        for step, numbers in zip(steps, order, strict=True)
        for part in numbers.reshape(-1, size).tolist()
    )
    planned, places = tee(batches_of_places)
    cut = crops_of_workers if apart else _crops_of_threads
    mean, std = model.mean or IMAGENET_MEAN, model.std or IMAGENET_STD
    with closing(cut(places, data, settings)) as batches:
        for crops, batch in zip(batches, planned, strict=False):
            made = CropBatch(*assemble(crops, model.size, device, mean, std))
            yield made, [place.number for place in batch]


def _crops_of_threads(
    batches: Iterator[list[Place]], data: LabelledData, settings: FinetuneSettings
) -> Generator[list[Crop], None, None]:
    """The crops of each batch, in order, cut ahead in threads of this process."""
    size = settings.data.batch_size

    def read(place: Place) -> Crop:
        return read_crop(place, data.train[place.number], data, settings)

    places = (place for places in batches for place in places)
    ahead = _BATCHES_AHEAD * size
    with closing(map_ahead(read, places, threads=data.threads, ahead=ahead)) as crops:
        while batch := list(islice(crops, size)):
            yield batch


def examples_in_batches(
    examples: Sequence[Example], data: LabelledData, batch_size: int
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Whole images and their labels in order; consecutive images of one size form a batch.

    Yields:
        Up to ``batch_size`` images uint8 ``[H, W, 3]`` and as many labels uint8 ``[H, W]``.
    """
    read = map_ahead(
        lambda e: read_example(e, data), examples, threads=data.threads, ahead=_IMAGES_AHEAD
    )
    with closing(read) as pairs:
        for batch in batches_of_one_size(pairs, batch_size):
            images, labels = zip(*batch, strict=True)
            yield list(images), list(labels)


def batches_of_one_size(
    tuples: Iterable[tuple[Tensor, Result]], batch_size: int
) -> Iterator[list[tuple[Tensor, Result]]]:
    """Group consecutive tuples whose images have the same size, at most ``batch_size`` each."""
    batch: list[tuple[Tensor, Result]] = []
    for image, other in tuples:
        if batch and (len(batch) == batch_size or image.shape != batch[0][0].shape):
            yield batch
            batch = []
        batch.append((image, other))
    if batch:
        yield batch
