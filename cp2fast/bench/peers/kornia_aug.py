"""The same steps with kornia's augmentations: crops per image, the rest on whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cp2fast.bench.peers import Compose
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD


def composer(images: Sequence[Tensor], size: int) -> Compose:
    """See the package. Images of different sizes must be cropped before they can form a batch."""
    from kornia import augmentation as ka

    planar = [image.permute(2, 0, 1)[None] / 255 for image in images]
    crop = ka.RandomResizedCrop((size, size), scale=(0.2, 1.0), resample="bilinear", p=1.0)
    paste = composer_of_crops()

    def crops(numbers: Sequence[int]) -> Tensor:
        return torch.cat([crop(planar[number]) for number in numbers])

    def compose(numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        behind = torch.randint(len(planar), (2, len(numbers))).tolist()
        return paste(crops(numbers), crops(numbers), crops(behind[0]), crops(behind[1]))

    return compose


def composer_of_crops() -> Callable[
    [Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]
]:
    """The steps after cropping.

    Returns:
        A function that takes four batches of crops, ``[B, 3, S, S]`` in 0 to 1 (the foregrounds of
        query and key, then their backgrounds), and returns query, key and masks.
    """
    from kornia import augmentation as ka

    colour = ka.AugmentationSequential(
        ka.ColorJiggle(0.4, 0.4, 0.4, 0.1, p=0.8),
        ka.RandomGrayscale(p=0.2),
        ka.RandomGaussianBlur((13, 13), (0.1, 2.0), p=0.5, border_type="replicate"),
        ka.RandomHorizontalFlip(p=0.5),
        ka.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
    )
    erase = ka.RandomErasing(scale=(0.5, 0.8), ratio=(0.8, 1.25), value=1.0, p=1.0)

    def paste(foreground: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        mask = erase(torch.zeros_like(foreground[:, :1])) == 1
        return torch.where(mask, colour(foreground), colour(background)), mask[:, 0]

    def compose(
        query: Tensor, key: Tensor, query_behind: Tensor, key_behind: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        query, query_mask = paste(query, query_behind)
        key, key_mask = paste(key, key_behind)
        return query, key, query_mask, key_mask

    return compose
