"""The content of an export, and functions that several formats share."""

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
    """A file that is ready to be written.

    Attributes:
        content: content of the file.
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


def tensors_as_bytes(tensors: Mapping[str, Tensor], suffix: str) -> bytes:
    """A state dict as the content of a file with this suffix."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if suffix == SAFETENSORS:
        return safetensors.torch.save(contiguous, {"format": "pt"})

    buffer = io.BytesIO()
    torch.save(contiguous, buffer)
    return buffer.getvalue()


def read_tensors(path: Path, suffix: str) -> dict[str, Tensor]:
    """Read a file of ``tensors_as_bytes`` as a user would; ``path`` need not have the suffix."""
    if suffix == SAFETENSORS:
        return safetensors.torch.load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def reading_code(file: str) -> tuple[str, str]:
    """Code for the user: the import besides torch, and the expression that reads ``file``."""
    if file.endswith(SAFETENSORS):
        return "from safetensors.torch import load_file\n", f'load_file("{file}")'
    return "", f'torch.load("{file}", weights_only=True)'


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
