"""The same steps with torchvision's v2 transforms on uint8 tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

from cp2fast.bench.peers.original import MEAN, STD


def composer(
    images: Sequence[Tensor], size: int
) -> Callable[[Sequence[int]], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """See the package."""
    planar = [image.permute(2, 0, 1) for image in images]
    view = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(13, sigma=(0.1, 2.0))], p=0.5),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    blank = torch.zeros(3, size, size)
    erase = v2.RandomErasing(p=1.0, scale=(0.5, 0.8), ratio=(0.8, 1.25), value=1)

    def composed(number: int) -> tuple[Tensor, Tensor]:
        behind = planar[int(torch.randint(len(planar), ()))]
        mask = erase(blank)[0] == 1
        return torch.where(mask, view(planar[number]), view(behind)), mask

    def compose(numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        query, query_mask = zip(*map(composed, numbers), strict=True)
        key, key_mask = zip(*map(composed, numbers), strict=True)
        return (
            torch.stack(query),
            torch.stack(key),
            torch.stack(query_mask),
            torch.stack(key_mask),
        )

    return compose
