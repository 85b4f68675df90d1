"""The same steps with torchvision's v2 transforms on uint8 tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from cp2fast.bench.peers import Compose
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.data.decoding.decode import decode_image
from cp2fast.data.image_sets.image_set import ImageSet


def composer(images: Sequence[Tensor], size: int) -> Compose:
    """See the package."""
    planar = [image.permute(2, 0, 1) for image in images]
    views_of = viewer(size, planar[0].device)
    return lambda numbers: paste([views_of(planar[number]) for number in numbers])


class Views(Dataset[tuple[Tensor, Tensor]]):
    """The views and masks of images, with one decode each."""

    def __init__(self, images: ImageSet, size: int) -> None:
        self._images, self._views_of = images, viewer(size)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        encoded = self._images.read(number)
        try:
            data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
            image = decode_jpeg(data, mode=ImageReadMode.RGB)
        except RuntimeError:  # not a common JPEG
            image = decode_image(encoded, 10**9).permute(2, 0, 1)
        return self._views_of(image)


def viewer(
    size: int, device: torch.device | None = None
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function from a decoded image, uint8 ``[3, H, W]``, to its views and masks.

    The views ``[4, 3, S, S]`` are two foregrounds, then two backgrounds for others in the batch;
    the masks ``[2, S, S]`` are those of query and key.
    """
    view = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(13, sigma=(0.1, 2.0))], p=0.5),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    erase = v2.RandomErasing(p=1.0, scale=(0.5, 0.8), ratio=(0.8, 1.25), value=1)
    blank = torch.zeros(3, size, size, device=device)

    def views_of(image: Tensor) -> tuple[Tensor, Tensor]:
        views = torch.stack([view(image) for _ in range(4)])
        return views, torch.stack([erase(blank)[0] == 1 for _ in range(2)])

    return views_of


def paste(samples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key and masks of a batch; a sample's backgrounds come from its next two neighbours."""
    views = torch.stack([views for views, _ in samples])
    query_mask, key_mask = torch.stack([masks for _, masks in samples]).unbind(1)
    query = torch.where(query_mask[:, None], views[:, 0], views[:, 2].roll(1, 0))
    key = torch.where(key_mask[:, None], views[:, 1], views[:, 3].roll(2, 0))
    return query, key, query_mask, key_mask
