"""Crops cut in worker processes, for a fine-tuning whose training thread launches GPU kernels.

    places of a batch -> worker: read, decode, cut -> memory shared with this process -> crops

The crops equal those that threads of this process would cut; ``data/workers/processes.py`` says why
processes cut them there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from cp2fast.buffers import Buffers
from cp2fast.config import FinetuneSettings
from cp2fast.data.prefetch import keep_ahead
from cp2fast.data.workers.processes import split_threads, work_in_processes
from cp2fast.data.workers.shared_memory import Lender
from cp2fast.finetune.augment import Crop, cut
from cp2fast.labels.dataset import Example, LabelledData, read_example

_BATCHES_AHEAD = 1
_ASKED_AHEAD = _BATCHES_AHEAD + 2
"""Batches requested per worker; one is returned only after ``_BATCHES_AHEAD`` more requests."""


class Place(NamedTuple):
    """An image's place in the order of a training: its crop follows from epoch and number."""

    epoch: int
    number: int


def read_crop(
    place: Place, example: Example, data: LabelledData, settings: FinetuneSettings
) -> Crop:
    """Read an image with its labels, and cut the crop of this place.

    Raises:
        UserError: the image or its mask cannot be used.
    """
    return cut(*read_example(example, data), settings, place.epoch, place.number)


def crops_of_workers(
    batches: Iterator[list[Place]], data: LabelledData, settings: FinetuneSettings
) -> Generator[list[Crop], None, None]:
    """The crops of each batch, in order; their pixels are valid as long as the crops.

    Raises:
        UserError: an image or a mask cannot be used, or a worker died.
    """
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
        read = partial(read_crop, data=self.data, settings=self.settings)
        with ThreadPoolExecutor(self.threads, "cp2fast-crop") as pool:
            started = ([pool.submit(read, *asked) for asked in request] for request in requests)
            for futures in keep_ahead(started, _BATCHES_AHEAD):
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
