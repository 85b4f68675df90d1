"""Whether parameters fit a batch: the kernels read pixels without looking where."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.parameters import Parameters

MAX_SIGMA = 2.0
"""The blur's radius, ceil(3 sigma), is at most the 6 pixels of halo that the kernels keep."""

_BATCH = {
    "pixels": torch.uint8,
    "offset": torch.int64,
    "height": torch.int32,
    "width": torch.int32,
}
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


def validate(
    batch: RaggedBatch,
    parameters: Parameters,
    size: int,
    dtype: torch.dtype,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Check all that a caller of ``copy_paste`` can get wrong; nothing is read from a GPU.

    Raises:
        ValueError: naming the argument, and the sample or image where it is wrong.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1: {size}")
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"dtype must be float32, bfloat16 or float16: {dtype}")
    _check_normalisation(mean, std)
    _check_batch(batch)
    _check_parameters(batch, parameters, size)


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not all(map(math.isfinite, values)):
            raise ValueError(f"{name} must be three finite numbers: {list(values)}")
    if min(std) <= 0:
        raise ValueError(f"std must be positive: {list(std)}")


def _check_batch(batch: RaggedBatch) -> None:
    for name, dtype in _BATCH.items():
        tensor = getattr(batch, name)
        length = tensor.numel() if name == "pixels" else batch.offset.numel()
        _check_tensor(name, tensor, dtype, (length,))
    offset, height, width = (getattr(batch, name).long() for name in ("offset", "height", "width"))
    _check("height", height > 0, height, "must be positive", of="image")
    _check("width", width > 0, width, "must be positive", of="image")
    _check("offset", offset >= 0, offset, "must not be negative", of="image")
    _check(
        "pixels",
        offset + height * width * 3 <= len(batch.pixels),
        torch.stack([offset, height, width], dim=1),
        f"ends before the image does: its {len(batch.pixels)} bytes, offset, height and width",
        of="image",
    )


def _check_parameters(batch: RaggedBatch, parameters: Parameters, size: int) -> None:
    samples = parameters.source.shape[:1]
    if not samples.numel():
        raise ValueError("parameters must be of at least one sample")
    for name, (dtype, shape) in _PARAMETERS.items():
        tensor = getattr(parameters, name)
        _check_tensor(name, tensor, dtype, (*samples, *shape))
    p = parameters
    _check(
        "source",
        (p.source >= 0) & (p.source < len(batch)),
        p.source,
        f"must be the number of one of the {len(batch)} images",
    )
    sides = torch.stack([batch.height, batch.width], dim=1)[p.source.long()]
    _check("box", _inside(p.box, sides), p.box, "is empty or leaves its image")
    _check("orientation", p.orientation < 8, p.orientation, "must be from 0 to 7")
    _check("factor", p.factor.isfinite(), p.factor, "must be finite")
    _check(
        "order",
        (p.order.sort(dim=-1).values == torch.arange(4)).all(dim=-1),
        p.order,
        "must be a permutation of 0, 1, 2, 3",
    )
    _check(
        "sigma",
        (p.sigma >= 0) & (p.sigma <= MAX_SIGMA),
        p.sigma,
        f"must be from 0 to {MAX_SIGMA:g}",
    )
    _check(
        "paste",
        _inside(p.paste, torch.tensor([size, size])),
        p.paste,
        f"is empty or leaves the {size} x {size} output",
    )


def _inside(box: Tensor, sides: Tensor) -> Tensor:
    """Whether (top, left, height, width) is a rectangle inside an image of (height, width)."""
    place, extent = box[..., :2].long(), box[..., 2:].long()
    return ((place >= 0) & (extent >= 1) & (place + extent <= sides)).all(dim=-1)


def _check_tensor(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype:
        raise ValueError(f"{name} must be {dtype}: it is {tensor.dtype}")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}: it has {tuple(tensor.shape)}")
    if tensor.device.type != "cpu" and name != "pixels":
        raise ValueError(f"{name} must be on the CPU: it is on {tensor.device}")


def _check(name: str, right: Tensor, values: Tensor, must: str, of: str = "sample") -> None:
    """Raise for the first sample (or image) in which something is not right."""
    if not right.all():
        first = int(right.reshape(len(right), -1).all(dim=1).logical_not().nonzero()[0])
        raise ValueError(f"{name} of {of} {first} {must}: {values[first].tolist()}")
