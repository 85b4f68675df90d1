"""The learning rate and the size of the images over the run: pure functions of the step."""

from __future__ import annotations

import math

REFERENCE_BATCH = 256
"""Samples a step that the learning rates of the recipes are meant for."""


def cosine_by_epoch(peak: float, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Learning rate of ``step`` (from 0): half a cosine from ``peak`` to 0, constant in an epoch.

    As the original's ``adjust_learning_rate``; with a number of steps that is no whole number of
    epochs, the cosine ends where the run does.
    """
    epoch, epochs = step // steps_per_epoch, total_steps / steps_per_epoch
    return 0.5 * peak * (1.0 + math.cos(math.pi * min(epoch / epochs, 1.0)))


def scaled_by_batch(lr: float, samples: int) -> float:
    """Learning rate for steps of ``samples`` samples, linear in them (Goyal et al., 2017)."""
    return lr * samples / REFERENCE_BATCH


def growing_size(start: int, end: int, multiple: int, step: int, total_steps: int) -> int:
    """Side of the images of ``step`` (from 0): from ``start`` to ``end`` in equal stretches.

    Args:
        start: a multiple of ``multiple``.
        end: as ``start``, and not smaller.
        multiple: pixels from one size to the next.
        step: the run's step.
        total_steps: the run's number of steps.
    """
    sizes = range(start, end + 1, multiple)
    return sizes[min(step * len(sizes) // total_steps, len(sizes) - 1)]


def polynomial(first: float, last: float, power: float, step: int, total_steps: int) -> float:
    """Learning rate of ``step`` (from 0): from ``first`` down to ``last``, which it never reaches.

    As mmsegmentation's "poly" policy with a minimum.
    """
    return (first - last) * math.pow(1.0 - step / total_steps, power) + last
