"""The content of an export, and functions that several formats share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cp2fast.philox import Stream, uniform
from cp2fast.weights.trained import Trained

TORCH_SUFFIXES = (".pth", ".pt")
SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class Exported:
    """A file that is ready to be written.

    Attributes:
        holds: description of the content, such as ``the backbone``.
        check: reads the written file as its user will and returns the largest difference between
            its outputs and the network's, relative to the network's largest output.
        library: name and version of the library that the check used.
        usage: Python code that loads the file from the working directory and runs it.
        notes: what the user should know, one sentence each.
        tolerance: the largest difference that rounding can explain.
    """

    content: bytes
    holds: str
    check: Callable[[Path], float]
    library: str
    usage: str
    notes: list[str] = field(default_factory=list)
    tolerance: float = 1e-5


def side_in_whole_cells(trained: Trained) -> int:
    """Side of the images that exports are compared on: the trained size, rounded up to whole cells.

    What lies beyond them is padded by cp2fast, and cut off by some libraries.
    """
    cell = trained.network.feature_stride
    return -(-trained.model.size // cell) * cell


def random_images(count: int, height: int, width: int) -> Tensor:
    """Images for comparing outputs: ``[count, 3, height, width]``, uniform from -2 to 2.

    This is about the range of ImageNet-normalised pixels. The images are always the same.
    """
    numbers = uniform(0, Stream.EXPORT_CHECK, 0, np.arange(-(-count * 3 * height * width // 4)))
    flat = torch.from_numpy(numbers.reshape(-1)[: count * 3 * height * width])
    return (4 * flat - 2).float().view(count, 3, height, width)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference relative to our largest value; infinite if shapes differ or with NaN."""
    if ours.shape != theirs.shape or not (ours.isfinite().all() and theirs.isfinite().all()):
        return float("inf")
    return float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12))
