"""The original CP2 pipeline: four PIL transforms a sample, pasted as tensors.

Steps and parameters are those of the original's ``main.py``: RandomResizedCrop, ColorJitter,
RandomGrayscale, Gaussian blur by Pillow, flip, ToTensor, Normalize; RandomErasing with value 0 cuts
the place of the foreground out of the background.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def composer(
    images: Sequence[Tensor], size: int
) -> Callable[[Sequence[int]], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """See the package; the images are turned into PIL images here, outside the measured part."""
    pictures = [Image.fromarray(image.numpy()) for image in images]
    foreground = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=(0.2, 1.0)),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.RandomApply([_blur], p=0.5),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    background = transforms.Compose(
        [
            foreground,
            transforms.RandomErasing(p=1.0, scale=(0.5, 0.8), ratio=(0.8, 1.25), value=0),
        ]
    )

    def pair(number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        query, key = foreground(pictures[number]), foreground(pictures[number])
        behind_query = background(pictures[random.randrange(len(pictures))])
        behind_key = background(pictures[random.randrange(len(pictures))])
        query_mask, key_mask = behind_query[0] == 0, behind_key[0] == 0
        return (
            query * query_mask + behind_query,
            key * key_mask + behind_key,
            query_mask,
            key_mask,
        )

    def compose(numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        query, key, query_mask, key_mask = zip(*map(pair, numbers), strict=True)
        return (
            torch.stack(query),
            torch.stack(key),
            torch.stack(query_mask),
            torch.stack(key_mask),
        )

    return compose


def _blur(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))
