"""Labelled images, decoded ahead in an order determined by the seed.

plan -> threads or workers: read, decode, cut -> crops of a batch -> device: assemble

Worker processes cut the crops of a fine-tuning whose training thread launches GPU kernels, and
return them in shared memory; ``data/workers/processes.py`` says why. They equal those of threads.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, tee
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from cp2fast.buffers import Buffers
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, FinetuneSettings
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.prefetch import keep_ahead, map_ahead
from cp2fast.data.workers.processes import split_threads, work_in_processes
from cp2fast.data.workers.shared_memory import Lender
from cp2fast.finetune.augment import Crop, assemble, cut
from cp2fast.labels.dataset import Example, LabelledData, read_example
from cp2fast.train.batches import Made
from cp2fast.train.distributed import ALONE, Ranks

Result = TypeVar("Result")

_BATCHES_AHEAD = 2
_IMAGES_AHEAD = 8
_AHEAD_IN_WORKER = 1
_ASKED_AHEAD = _AHEAD_IN_WORKER + 2
"""Batches requested per worker; one is returned only after ``_AHEAD_IN_WORKER`` more requests."""


class CropBatch(NamedTuple):
    """A training batch: normalised images ``[B, 3, S, S]`` and uint8 labels ``[B, S, S]``."""

    images: Tensor
    labels: Tensor


class Place(NamedTuple):
    """An image's place in the order of a training: its crop follows from epoch and number."""

    epoch: int
    number: int


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
        UserError: an image or a mask cannot be used, there are fewer images than a step needs, or
            a worker died.
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
    cut_ahead = _crops_of_workers if apart else _crops_of_threads
    mean, std = model.mean or IMAGENET_MEAN, model.std or IMAGENET_STD
    with closing(cut_ahead(places, data, settings)) as batches:
        for crops, batch in zip(batches, planned, strict=False):
            made = CropBatch(*assemble(crops, model.size, device, mean, std))
            yield made, [place.number for place in batch]


def _crops_of_threads(
    batches: Iterator[list[Place]], data: LabelledData, settings: FinetuneSettings
) -> Generator[list[Crop], None, None]:
    """The crops of each batch, in order, cut ahead in threads of this process."""
    size = settings.data.batch_size

    def read(place: Place) -> Crop:
        return _read_crop(place, data.train[place.number], data, settings)

    places = (place for places in batches for place in places)
    ahead = _BATCHES_AHEAD * size
    with closing(map_ahead(read, places, threads=data.threads, ahead=ahead)) as crops:
        while batch := list(islice(crops, size)):
            yield batch


def _read_crop(
    place: Place, example: Example, data: LabelledData, settings: FinetuneSettings
) -> Crop:
    return cut(*read_example(example, data), settings, place.epoch, place.number)


def _crops_of_workers(
    batches: Iterator[list[Place]], data: LabelledData, settings: FinetuneSettings
) -> Generator[list[Crop], None, None]:
    """The crops of each batch, in order; their pixels are valid as long as the crops."""
    count, each = split_threads(data.threads)
    # The workers are told of each example when it is needed: outlines of all could fill the memory.
    job = _Job(replace(data, train=[], val=[]), settings, each)
    requests = ([(place, data.train[place.number]) for place in places] for places in batches)
    answers = work_in_processes(job, requests, count=count, ahead=_ASKED_AHEAD)
    with closing(answers):
        for cuts, memory in answers:
            if memory is not None:
                yield list(_unpacked(cuts, memory))


class _Cut(NamedTuple):
    """A crop without its pixels: their height and width, and the other fields of ``Crop``."""

    height: int
    width: int
    size: tuple[int, int]
    flip: bool
    colour: tuple[float, ...]


@dataclass(frozen=True)
class _Job:
    """What a worker needs to cut the crops that it is asked for."""

    data: LabelledData
    settings: FinetuneSettings
    threads: int

    def run(
        self, requests: Iterator[list[tuple[Place, Example]]], memory: Lender
    ) -> Iterator[tuple[list[_Cut], Tensor | None]]:
        """Cut the crops of each requested batch; their pixels are packed into ``memory``."""
        buffers = Buffers(keep=_ASKED_AHEAD + 1, allocate=memory.allocate)
        read = partial(_read_crop, data=self.data, settings=self.settings)
        with ThreadPoolExecutor(self.threads, "cp2fast-crop") as pool:
            started = ([pool.submit(read, *asked) for asked in request] for request in requests)
            for futures in keep_ahead(started, _AHEAD_IN_WORKER):
                yield _packed([future.result() for future in futures], buffers)


def _packed(crops: Sequence[Crop], buffers: Buffers) -> tuple[list[_Cut], Tensor]:
    """The crops without their pixels, and one tensor of all pixels: each image, then its labels."""
    parts = [part for crop in crops for part in (crop.image.flatten(), crop.labels.flatten())]
    memory = buffers.take(sum(map(len, parts)))
    torch.cat(parts, out=memory)
    cuts = [
        _Cut(len(crop.labels), crop.labels.shape[1], crop.size, crop.flip, crop.colour)
        for crop in crops
    ]
    return cuts, memory


def _unpacked(cuts: Sequence[_Cut], memory: Tensor) -> Iterator[Crop]:
    """The inverse of ``_packed``; the pixels are views of ``memory``."""
    begin = 0
    for height, width, size, flip, colour in cuts:
        middle = begin + height * width * 3
        end = middle + height * width
        image = memory[begin:middle].view(height, width, 3)
        yield Crop(image, memory[middle:end].view(height, width), size, flip, colour)
        begin = end


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
