"""Compose batches from decoded images, on the device of the network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import CopyPasteBatch, RaggedBatch
from cp2fast.config import SIZE_STEP, PretrainSettings
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.train.batches import Made
from cp2fast.train.schedule import growing_size


def split_steps(
    steps: Iterator[NDArray[np.int64]], accumulate: int, independent: bool
) -> Iterator[NDArray[np.int64]]:
    """Split each step into batches with the same number of samples.

    Args:
        steps: image numbers of each step, as ``plan`` gives them for all batches of a step.
        accumulate: batches per step.
        independent: whether the numbers are for a foreground and two backgrounds per sample.
    """
    for numbers in steps:
        parts = numbers.reshape(3 if independent else 1, accumulate, -1)
        for batch in range(accumulate):
            yield parts[:, batch].reshape(-1)


def image_size(settings: PretrainSettings, step: int, total_steps: int) -> int:
    """Side of the composed images in a step, in pixels."""
    start, end = settings.train.resolution, settings.model.size
    return end if start is None else growing_size(start, end, SIZE_STEP, step, total_steps)


def compose(
    batches: Iterator[RaggedBatch],
    settings: PretrainSettings,
    *,
    seed: int,
    start: int,
    steps_per_epoch: int,
    total_steps: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Made[CopyPasteBatch]:
    """Augment and compose each decoded batch on ``device``.

    Args:
        batches: decoded batches, ``train.gradient_accumulation_steps`` per step.
        settings: the run's settings.
        seed: seed of the augmentation.
        start: step of the first batch.
        steps_per_epoch: steps per epoch.
        total_steps: steps in the run.
        device: device of the network.
        dtype: dtype of the images; the network's arithmetic would round them to it anyway.
    """
    augment = settings.augment
    for number, batch in enumerate(batches):
        step = start + number // settings.train.gradient_accumulation_steps
        epoch, size = step // steps_per_epoch, image_size(settings, step, total_steps)
        parameters = sample_parameters(seed, epoch, batch, size, settings.data.background, augment)
        pairs = copy_paste(
            *(batch, parameters, size, dtype), device=device, mean=augment.mean, std=augment.std
        )
        yield pairs, batch.index[: len(pairs)].tolist()
