"""The learning rate over the run."""

import math


def cosine_by_epoch(peak: float, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Learning rate of ``step`` (from 0): half a cosine from ``peak`` to 0, constant in an epoch.

    As the original's ``adjust_learning_rate``; with a number of steps that is no whole number of
    epochs, the cosine ends where the run does.
    """
    epoch, epochs = step // steps_per_epoch, total_steps / steps_per_epoch
    return 0.5 * peak * (1.0 + math.cos(math.pi * min(epoch / epochs, 1.0)))


def polynomial(first: float, last: float, power: float, step: int, total_steps: int) -> float:
    """Learning rate of ``step`` (from 0): from ``first`` down to ``last``, which it never reaches.

    As mmsegmentation's "poly" policy with a minimum.
    """
    return (first - last) * math.pow(1.0 - step / total_steps, power) + last
