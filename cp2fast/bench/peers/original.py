"""The original CP2 pipeline: four PIL transforms per sample, pasted as tensors.

Steps and parameters are those of the original's ``main.py``: RandomResizedCrop, ColorJitter,
RandomGrayscale, Gaussian blur with Pillow, flip, ToTensor, Normalize; RandomErasing with value 0
cuts the foreground's rectangle out of the background.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from functools import partial

from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision import transforms

from cp2fast.bench.peers import Compose
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.data.image_sets.image_set import ImageSet


def composer(images: Sequence[Tensor], size: int) -> Compose:
    """See the package; images are converted to PIL here, outside the measured part."""
    pictures = [Image.fromarray(image.numpy()) for image in images]
    pairs = Pairs(pictures.__getitem__, len(pictures), size)
    return lambda numbers: default_collate([pairs[number] for number in numbers])


def pairs_of_files(images: ImageSet, size: int) -> Pairs:
    """See the package: three decodes per sample.

    The original runs three loaders side by side, for foregrounds and two kinds of backgrounds. Here
    one loader reads all three, so that there are not three times as many processes as cores.
    """
    return Pairs(partial(_open, images), len(images), size)


class Pairs(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Query, key and their masks for an image, with two other images as backgrounds."""

    def __init__(self, read: Callable[[int], Image.Image], count: int, size: int) -> None:
        self._read = read
        self._count = count
        self._foreground = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=(0.2, 1.0)),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                transforms.RandomApply([_blur], p=0.5),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )
        self._background = transforms.Compose(
            [
                self._foreground,
                transforms.RandomErasing(p=1.0, scale=(0.5, 0.8), ratio=(0.8, 1.25), value=0),
            ]
        )

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        picture = self._read(number)
        query, key = self._foreground(picture), self._foreground(picture)
        behind_query, behind_key = (
            self._background(self._read(random.randrange(self._count))) for _ in range(2)
        )
        query_mask, key_mask = behind_query[0] == 0, behind_key[0] == 0
        return (
            query * query_mask + behind_query,
            key * key_mask + behind_key,
            query_mask,
            key_mask,
        )


def _open(images: ImageSet, number: int) -> Image.Image:
    return Image.open(io.BytesIO(images.read(number))).convert("RGB")


def _blur(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))
