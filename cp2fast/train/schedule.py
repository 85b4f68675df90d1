"""The learning rate and the image size over the run: pure functions of the step."""

from __future__ import annotations

import math

REFERENCE_BATCH = 256
"""Samples per step for which the learning rates of the recipes are meant."""


def cosine_by_epoch(peak: float, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Learning rate of ``step`` (from 0): half a cosine from ``peak`` to 0, constant per epoch.

    Same as the original's ``adjust_learning_rate``. If the run ends within an epoch, the cosine
    ends with the run.
    """
    epoch, epochs = step // steps_per_epoch, total_steps / steps_per_epoch
    return 0.5 * peak * (1.0 + math.cos(math.pi * min(epoch / epochs, 1.0)))


def scaled_by_batch(lr: float, samples: int) -> float:
    """Learning rate for steps of ``samples`` samples, scaled linearly (Goyal et al., 2017)."""
    return lr * samples / REFERENCE_BATCH


def growing_size(start: int, end: int, multiple: int, step: int, total_steps: int) -> int:
    """Side of the images in ``step`` (from 0), growing from ``start`` to ``end`` in equal phases.

    Args:
        start: a multiple of ``multiple``.
        end: a multiple of ``multiple``, not less than ``start``.
        multiple: difference between consecutive sizes, in pixels.
        step: current step of the run.
        total_steps: number of steps of the run.
    """
    sizes = range(start, end + 1, multiple)
    return sizes[min(step * len(sizes) // total_steps, len(sizes) - 1)]


def polynomial(first: float, last: float, power: float, step: int, total_steps: int) -> float:
    """Learning rate of ``step`` (from 0), falling from ``first`` towards ``last``, never reached.

    Same as mmsegmentation's "poly" policy with a minimum.
    """
    return (first - last) * math.pow(1.0 - step / total_steps, power) + last
