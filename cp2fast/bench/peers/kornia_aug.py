"""The same steps with kornia's augmentations: crops image by image, the rest on whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cp2fast.bench.peers.original import MEAN, STD


def composer(
    images: Sequence[Tensor], size: int
) -> Callable[[Sequence[int]], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """See the package. Images of different sizes cannot share a batch before they are cropped."""
    from kornia import augmentation as ka

    planar = [image.permute(2, 0, 1)[None] / 255 for image in images]
    crop = ka.RandomResizedCrop((size, size), scale=(0.2, 1.0), resample="bilinear", p=1.0)
    colour = ka.AugmentationSequential(
        ka.ColorJiggle(0.4, 0.4, 0.4, 0.1, p=0.8),
        ka.RandomGrayscale(p=0.2),
        ka.RandomGaussianBlur((13, 13), (0.1, 2.0), p=0.5, border_type="replicate"),
        ka.RandomHorizontalFlip(p=0.5),
        ka.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )
    erase = ka.RandomErasing(scale=(0.5, 0.8), ratio=(0.8, 1.25), value=1.0, p=1.0)

    def views(numbers: Sequence[int]) -> Tensor:
        result: Tensor = colour(torch.cat([crop(planar[number]) for number in numbers]))
        return result

    def composed(numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        behind = torch.randint(len(planar), (len(numbers),)).tolist()
        mask = erase(torch.zeros(len(numbers), 1, size, size)) == 1
        return torch.where(mask, views(numbers), views(behind)), mask[:, 0]

    def compose(numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        query, query_mask = composed(numbers)
        key, key_mask = composed(numbers)
        return query, key, query_mask, key_mask

    return compose
