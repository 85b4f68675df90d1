"""What every export consists of, and the parts that several share."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from cp2fast.philox import Stream, uniform

TORCH_SUFFIXES = (".pth", ".pt")
SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class Exported:
    """A file to be, before it is written.

    Attributes:
        content: content of the file.
        holds: in words, such as ``the backbone``.
        check: given the written file, reads it as its user will and gives the largest difference
            between its outputs and the network's, relative to the network's largest output.
        tolerance: the largest such difference that rounding explains.
        library: what the check read the file with, and its version.
        usage: Python that loads the file from the working directory and runs it.
        notes: what its user should know, each a sentence.
    """

    content: bytes
    holds: str
    check: Callable[[Path], float]
    tolerance: float
    library: str
    usage: str
    notes: list[str] = field(default_factory=list)


def tensors_as_bytes(tensors: Mapping[str, Tensor], suffix: str) -> bytes:
    """A state dict as a file of this suffix."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if suffix == SAFETENSORS:
        return safetensors.torch.save(contiguous, {"format": "pt"})

    buffer = io.BytesIO()
    torch.save(contiguous, buffer)
    return buffer.getvalue()


def read_tensors(path: Path, suffix: str) -> dict[str, Tensor]:
    """What ``tensors_as_bytes`` wrote, read as a user would: ``path`` need not have the suffix."""
    if suffix == SAFETENSORS:
        return safetensors.torch.load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def reading_code(file: str) -> tuple[str, str]:
    """Python for the user: what to import beside torch, and the expression that reads ``file``."""
    if file.endswith(SAFETENSORS):
        return "from safetensors.torch import load_file\n", f'load_file("{file}")'
    return "", f'torch.load("{file}", weights_only=True)'


def random_images(count: int, height: int, width: int) -> Tensor:
    """Images to compare outputs on: ``[count, 3, height, width]``, uniform from -2 to 2.

    That is about the range of ImageNet-normalised pixels; always the same images.
    """
    numbers = uniform(0, Stream.EXPORT_CHECK, 0, np.arange(-(-count * 3 * height * width // 4)))
    flat = torch.from_numpy(numbers.reshape(-1)[: count * 3 * height * width])
    return (4 * flat - 2).float().view(count, 3, height, width)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative to our largest value; infinite where the shapes differ or a value is no number."""
    if ours.shape != theirs.shape or not (ours.isfinite().all() and theirs.isfinite().all()):
        return float("inf")
    return float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12))
