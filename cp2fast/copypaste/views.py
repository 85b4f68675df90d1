"""The op's input table, with one row of 16 words per view, shared by all backends.

| word | holds |
|---|---|
| 0, 1 | low and high half of an int64: offset in ``pixels`` where the crop begins, in bytes |
| 2 | bytes from one row of the image to the next |
| 3, 4 | the crop's height and width in source pixels |
| 5 | flags: bits 0 to 2 the orientation, bit 3 jitter, bit 4 grey, bits 8 to 15 the jitter operations, two bits each, the first one lowest |
| 6 to 9 | float32: brightness, contrast and saturation factors, and the hue's shift in turns |
| 10 | float32: the blur's standard deviation in output pixels |
| 11 to 14 | top, left, height and width of the foreground of the view's pair |
| 15 | 0 |
"""  # noqa: E501

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.parameters import Parameters

VIEWS, WORDS = 4, 16
START, PITCH, HEIGHT, WIDTH, FLAGS, FACTOR, SIGMA, PASTE = 0, 2, 3, 4, 5, 6, 10, 11
"""The first word of each field."""
ORIENTATION, JITTER, GREY, ORDER = 0, 3, 4, 8
"""The first bit of each field of the flags."""

FLOAT32, BFLOAT16, FLOAT16 = range(3)
"""The kernels' codes for the composed images' dtype."""
KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}


def pack(batch: RaggedBatch, parameters: Parameters) -> Tensor:
    """The table of a batch's views, int32 ``[B, V, 16]`` on the CPU.

    Args:
        batch: only the positions of its images are used, not their pixels.
        parameters: parameters valid for this batch.
    """
    p, image = parameters, parameters.source.long()
    top, left, height, width = p.box.unbind(-1)
    pitch = 3 * batch.width[image]
    start = batch.offset[image] + top.long() * pitch + 3 * left
    bits = torch.arange(0, 2 * VIEWS, 2, dtype=torch.int32)
    flags = (
        (p.orientation.int() << ORIENTATION)
        | (p.jitter.int() << JITTER)
        | (p.grey.int() << GREY)
        | ((p.order << bits).sum(-1, dtype=torch.int32) << ORDER)
    )
    one = (pitch, height, width, flags)
    return torch.cat(
        [
            start[..., None].view(torch.int32),
            *(words[..., None] for words in one),
            p.factor.view(torch.int32),
            p.sigma.view(torch.int32)[..., None],
            p.paste.repeat(1, 2, 1),  # for query, key, query, key
            torch.zeros_like(pitch)[..., None],
        ],
        dim=-1,
    )


class View(NamedTuple):
    """One row of the table, decoded."""

    start: int
    pitch: int
    height: int
    width: int
    orientation: int
    jitter: bool
    grey: bool
    order: tuple[int, ...]
    factor: tuple[float, ...]
    sigma: float
    paste: tuple[int, ...]


def unpack(row: Tensor) -> View:
    """Decode a row, int32 ``[16]`` on the CPU."""
    words, floats = row.tolist(), row.view(torch.float32).tolist()
    flags = words[FLAGS]
    return View(
        start=int(row[START : START + 2].view(torch.int64)),
        pitch=words[PITCH],
        height=words[HEIGHT],
        width=words[WIDTH],
        orientation=flags >> ORIENTATION & 7,
        jitter=bool(flags >> JITTER & 1),
        grey=bool(flags >> GREY & 1),
        order=tuple(flags >> ORDER + 2 * place & 3 for place in range(4)),
        factor=tuple(floats[FACTOR : FACTOR + 4]),
        sigma=floats[SIGMA],
        paste=tuple(words[PASTE : PASTE + 4]),
    )
