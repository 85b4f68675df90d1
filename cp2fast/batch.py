"""The two interfaces between the parts: what a source yields and what the network gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

LONGEST_SIDE = 1 << 23
"""Of an image: single precision, in which the op computes positions, has no halves beyond it."""


@dataclass(frozen=True)
class RaggedBatch:
    """Decoded images of different sizes in one buffer.

    Attributes:
        pixels: uint8 ``[N]``, RGB, each image HWC and contiguous, on the device of the op. It may
            be a whole cache of which the batch uses a small part: clone an image to write into it.
        offset: int64 ``[B]``, start of each image in ``pixels``.
        height: int32 ``[B]``, at most ``LONGEST_SIDE``.
        width: int32 ``[B]``, the same.
        index: int64 ``[B]``, number of each image in the data set.

    Everything but the pixels is on the CPU, so that the host never has to wait for a GPU to learn
    sizes that it already knew. With independent backgrounds a batch of B samples holds 3 B images:
    the foregrounds, then the query's backgrounds, then the key's.
    """

    pixels: Tensor
    offset: Tensor
    height: Tensor
    width: Tensor
    index: Tensor

    @staticmethod
    def pack(images: Sequence[Tensor], index: Sequence[int] | Tensor) -> RaggedBatch:
        """Copy ``images`` (uint8 HWC RGB, all on one device) into one buffer, back to back."""
        sizes = torch.tensor([image.numel() for image in images], dtype=torch.int64)
        return RaggedBatch(
            pixels=torch.cat([image.reshape(-1) for image in images]),
            offset=sizes.cumsum(0) - sizes,
            height=torch.tensor([i.shape[0] for i in images], dtype=torch.int32),
            width=torch.tensor([i.shape[1] for i in images], dtype=torch.int32),
            index=torch.as_tensor(index, dtype=torch.int64, device="cpu"),
        )

    def image(self, position: int) -> Tensor:
        """The image at ``position`` of the batch: a uint8 ``[H, W, 3]`` view."""
        begin, height, width = (
            int(field[position]) for field in (self.offset, self.height, self.width)
        )
        return self.pixels[begin : begin + height * width * 3].view(height, width, 3)

    def to(self, device: torch.device) -> RaggedBatch:
        """The same batch with its pixels on ``device``, without the rest of a cache."""
        batch = self
        if device.type != self.pixels.device.type:
            own = int((self.height.long() * self.width).sum()) * 3
            if own < len(self.pixels):
                batch = RaggedBatch.pack([self.image(i) for i in range(len(self))], self.index)
        return replace(batch, pixels=batch.pixels.to(device))

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True)
class CopyPasteBatch:
    """Composed pairs, ready for the encoders.

    Attributes:
        query: ``[B, 3, S, S]`` channels-last, normalised; fp32, bf16 or fp16.
        key: as ``query``.
        query_mask: bool ``[B, S, S]``, True on the foreground.
        key_mask: as ``query_mask``.
    """

    query: Tensor
    key: Tensor
    query_mask: Tensor
    key_mask: Tensor

    def to(self, device: torch.device) -> CopyPasteBatch:
        """The same batch on ``device``."""
        return CopyPasteBatch(*(getattr(self, f.name).to(device) for f in fields(self)))

    def __len__(self) -> int:
        return len(self.query)
