"""Check that parameters fit a batch, because the kernels read pixels without bounds checks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.batch import LONGEST_SIDE, RaggedBatch
from cp2fast.config import MAX_SIGMA, MAX_SIZE
from cp2fast.copypaste.jit import exact, keep_compiled
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

_Words = NDArray[np.int32]
_Floats = NDArray[np.float32]

# The fields that ``_first_wrong`` checks, in this order.
_IMAGE_FIELDS = ("height", "width", "offset", "pixels")
_SAMPLE_FIELDS = ("source", "box", "orientation", "factor", "order", "sigma", "paste")
_HEIGHT, _WIDTH, _OFFSET, _PIXELS = range(4)
_SOURCE, _BOX, _ORIENTATION, _FACTOR, _ORDER, _SIGMA, _PASTE = range(4, 11)
_NOTHING = 11


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
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size must be from 1 to {MAX_SIZE}: {size}")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be float32, bfloat16 or float16: {dtype}")
    _check_normalisation(mean, std)
    _check_shapes(batch, parameters)
    p = parameters
    looked_at = p.source, p.box, p.orientation, p.factor, p.order, p.sigma, p.paste
    wrong, place = _first_wrong(
        *(field.numpy() for field in (batch.height, batch.width, batch.offset)),
        batch.pixels.numel(),
        *(field.contiguous().numpy() for field in looked_at),
        size,
    )
    if wrong != _NOTHING:
        raise ValueError(_complaint(batch, parameters, size, wrong, place))


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not all(map(math.isfinite, values)):
            raise ValueError(f"{name} must be three finite numbers: {list(values)}")
    if min(std) <= 0:
        raise ValueError(f"std must be positive: {list(std)}")
    if any(max(abs(m), abs(1 - m)) / s > _LARGEST_FLOAT16 for m, s in zip(mean, std, strict=True)):
        raise ValueError(f"std is too small, for float16 ends at {_LARGEST_FLOAT16}: {list(std)}")


def _check_shapes(batch: RaggedBatch, parameters: Parameters) -> None:
    if batch.pixels.dtype != torch.uint8:
        raise ValueError(f"pixels must be torch.uint8: it is {batch.pixels.dtype}")
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


@exact
def _first_wrong(
    height: _Words,
    width: _Words,
    offset: NDArray[np.int64],
    pixels: int,
    source: _Words,
    box: _Words,
    orientation: NDArray[np.uint8],
    factor: _Floats,
    order: _Words,
    sigma: _Floats,
    paste: _Words,
    size: int,
) -> tuple[int, int]:
    """The first field with an invalid value, and the first image or sample that has it."""
    wrong, place = _NOTHING, 0
    images = len(offset)
    for i in range(images):
        field = _wrong_of_image(height[i], width[i], offset[i], pixels)
        if field < wrong:
            wrong, place = field, i
    if wrong < _NOTHING:
        return wrong, place
    for b in range(len(source)):
        for v in range(4):
            image = source[b, v]
            if image < 0 or image >= images:
                field = _SOURCE
            elif not _inside(box[b, v], height[image], width[image]):
                field = _BOX
            else:
                field = _wrong_of_view(orientation[b, v], factor[b, v], order[b, v], sigma[b, v])
            if field < wrong:
                wrong, place = field, b
        for pair in range(2):
            if wrong > _PASTE and not _inside(paste[b, pair], size, size):
                wrong, place = _PASTE, b
    return wrong, place


@exact
def _wrong_of_image(height: int, width: int, offset: int, pixels: int) -> int:
    if not 0 < height <= LONGEST_SIDE:
        return _HEIGHT
    if not 0 < width <= LONGEST_SIDE:
        return _WIDTH
    if offset < 0:
        return _OFFSET
    # Divide, because the product of two sides and 3 plus the offset may not fit 64 bits.
    if offset > pixels or np.int64(height) * width > (pixels - offset) // 3:
        return _PIXELS
    return _NOTHING


@exact
def _wrong_of_view(orientation: int, factor: _Floats, order: _Words, sigma: float) -> int:
    if orientation > 7:
        return _ORIENTATION
    seen = 0
    for i in range(4):
        if not np.isfinite(factor[i]):
            return _FACTOR
        if 0 <= order[i] < 4:
            seen |= 1 << order[i]
    if seen != 15:
        return _ORDER
    if not 0 <= sigma <= MAX_SIGMA:  # also rejects NaN
        return _SIGMA
    return _NOTHING


@exact
def _inside(box: _Words, height: int, width: int) -> bool:
    """Whether (top, left, height, width) is a rectangle inside an image of this size."""
    top, left, h, w = np.int64(box[0]), np.int64(box[1]), np.int64(box[2]), np.int64(box[3])
    placed = top >= 0 and left >= 0 and h >= 1 and w >= 1
    return bool(placed and top + h <= height and left + w <= width)


keep_compiled(_first_wrong)


def _complaint(
    batch: RaggedBatch, parameters: Parameters, size: int, wrong: int, place: int
) -> str:
    name = (*_IMAGE_FIELDS, *_SAMPLE_FIELDS)[wrong]
    must = (
        f"must be from 1 to {LONGEST_SIDE}",
        f"must be from 1 to {LONGEST_SIDE}",
        "must not be negative",
        f"ends before the image does: its {len(batch.pixels)} bytes, offset, height and width",
        f"must be the number of one of the {len(batch)} images",
        "is empty or leaves its image",
        "must be from 0 to 7",
        "must be finite",
        "must be a permutation of 0, 1, 2, 3",
        f"must be from 0 to {MAX_SIGMA:g}",
        f"is empty or leaves the {size} x {size} output",
    )[wrong]
    if name == "pixels":
        values = [int(field[place]) for field in (batch.offset, batch.height, batch.width)]
    else:
        values = getattr(batch if name in _IMAGE_FIELDS else parameters, name)[place].tolist()
    kind = "image" if name in _IMAGE_FIELDS else "sample"
    return f"{name} of {kind} {place} {must}: {values}"
