"""Check that parameters fit a batch, because the kernels read pixels without bounds checks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.config import MAX_SIGMA
from cp2fast.copypaste.parameters import Parameters

_BATCH = {"offset": torch.int64, "height": torch.int32, "width": torch.int32}
_PARAMETERS = {
    "source": (torch.int32, (4,)),
    "box": (torch.int32, (4, 4)),
    "orientation": (torch.uint8, (4,)),
    "jitter": (torch.bool, (4,)),
    "factor": (torch.float32, (4, 4)),
    "order": (torch.int32, (4, 4)),
    "grey": (torch.bool, (4,)),
    "sigma": (torch.float32, (4,)),
    "paste": (torch.int32, (2, 4)),
}
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_LARGEST_FLOAT16 = 65_504


def validate(
    batch: RaggedBatch,
    parameters: Parameters,
    size: int,
    dtype: torch.dtype,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Check every argument of ``copy_paste``; nothing is read from a GPU.

    Raises:
        ValueError: an invalid argument; the message names it, and the sample or image concerned.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1: {size}")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be float32, bfloat16 or float16: {dtype}")
    _check_normalisation(mean, std)
    _check_shapes(batch, parameters)
    for name, values, is_valid, must in _values(batch, parameters, size):
        if not is_valid.all():
            place = int(np.argwhere(~is_valid)[0, 0])
            kind = "sample" if name in _PARAMETERS else "image"
            raise ValueError(f"{name} of {kind} {place} {must}: {values[place].tolist()}")


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not all(map(math.isfinite, values)):
            raise ValueError(f"{name} must be three finite numbers: {list(values)}")
    if min(std) <= 0:
        raise ValueError(f"std must be positive: {list(std)}")
    if any(max(abs(m), abs(1 - m)) / s > _LARGEST_FLOAT16 for m, s in zip(mean, std, strict=True)):
        raise ValueError(f"std is too small, for float16 ends at {_LARGEST_FLOAT16}: {list(std)}")


def _check_shapes(batch: RaggedBatch, parameters: Parameters) -> None:
    _check_tensor("pixels", batch.pixels, torch.uint8, (batch.pixels.numel(),))
    for name, dtype in _BATCH.items():
        _check_on_host(name, getattr(batch, name), dtype, (batch.offset.numel(),))
    samples = parameters.source.shape[:1]
    if not samples.numel():
        raise ValueError("parameters must be of at least one sample")
    for name, (dtype, shape) in _PARAMETERS.items():
        _check_on_host(name, getattr(parameters, name), dtype, (*samples, *shape))


def _check_tensor(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype:
        raise ValueError(f"{name} must be {dtype}: it is {tensor.dtype}")
    if tensor.shape != shape:
        raise ValueError(f"{name} must have shape {shape}: it has {tuple(tensor.shape)}")


def _check_on_host(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    _check_tensor(name, tensor, dtype, shape)
    if tensor.device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU: it is on {tensor.device}")


def _values(
    batch: RaggedBatch, parameters: Parameters, size: int
) -> Iterator[tuple[str, NDArray[np.generic], NDArray[np.bool_], str]]:
    """Each field's name and values, which are valid, and what they must be.

    Later fields are checked only if the earlier ones are valid, on which they depend.
    """
    offset, height, width = (getattr(batch, name).numpy().astype(np.int64) for name in _BATCH)
    for name, sides in (("height", height), ("width", width)):
        yield name, sides, sides > 0, "must be positive"
    yield "offset", offset, offset >= 0, "must not be negative"
    # Divide, because the product of two sides and 3 may not fit 64 bits.
    fits = height * width <= (len(batch.pixels) - offset) // 3
    must = f"ends before the image does: its {len(batch.pixels)} bytes, offset, height and width"
    yield "pixels", np.stack([offset, height, width], 1), fits, must

    source, box, orientation, factor, order, sigma, paste = (
        getattr(parameters, name).numpy()
        for name in ("source", "box", "orientation", "factor", "order", "sigma", "paste")
    )
    known = (source >= 0) & (source < len(batch))
    yield "source", source, known, f"must be the number of one of the {len(batch)} images"
    inside = _inside(box, height[source], width[source])
    yield "box", box, inside, "is empty or leaves its image"
    yield "orientation", orientation, orientation <= 7, "must be from 0 to 7"
    yield "factor", factor, np.isfinite(factor), "must be finite"
    is_order = np.sort(order, -1) == np.arange(4)
    yield "order", order, is_order, "must be a permutation of 0, 1, 2, 3"
    in_range = (sigma >= 0) & (sigma <= MAX_SIGMA)  # also rejects NaN
    yield "sigma", sigma, in_range, f"must be from 0 to {MAX_SIGMA:g}"
    inside = _inside(paste, size, size)
    yield "paste", paste, inside, f"is empty or leaves the {size} x {size} output"


def _inside(box: NDArray[np.int32], height: ArrayLike, width: ArrayLike) -> NDArray[np.bool_]:
    """Whether each (top, left, height, width) is a rectangle inside an image of this size."""
    top, left, h, w = np.moveaxis(box.astype(np.int64), -1, 0)
    inside: NDArray[np.bool_] = (top >= 0) & (left >= 0) & (h >= 1) & (w >= 1)
    inside &= (top + h <= height) & (left + w <= width)
    return inside
