"""Dense features of whole images from a frozen network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from cp2fast.copypaste.reference import normalise
from cp2fast.errors import UserError
from cp2fast.finetune.augment import resize_scale
from cp2fast.model.backbone import feature_map
from cp2fast.model.segmenter import Segmenter

Place = Literal["backbone", "head", "embedding"]
"""Where features are taken: the backbone's last map, the head's hidden map, or the embedding."""

_STATISTICS_BATCH = 16


def check_place(place: str) -> None:
    """Refuse a place that networks do not have.

    Raises:
        UserError: it is none of ``Place``.
    """
    if place not in get_args(Place):
        raise UserError(f"place={place}: must be one of {', '.join(get_args(Place))}")


@torch.no_grad()
def dense_features(network: Segmenter, images_B3HW: Tensor, place: Place) -> Tensor:
    """The features of normalised images in inference mode: float32 ``[B, C, h, w]``."""
    network.eval()
    if place == "backbone":
        return feature_map(network.backbone, images_B3HW).float()
    hidden = network.hidden(images_B3HW)
    return (network.project(hidden) if place == "embedding" else hidden).float()


@dataclass(frozen=True)
class Extractor:
    """Computes dense features of whole images by a frozen network, on its device.

    The short side of the images is resized to ``short_side`` pixels.
    """

    network: Segmenter
    place: Place
    short_side: int

    def __call__(self, images_HW3: Sequence[Tensor]) -> Tensor:
        """The features of uint8 RGB images of one size: float32 ``[B, C, h, w]``."""
        return dense_features(self.network, self.prepare(images_HW3), self.place)

    def prepare(self, images_HW3: Sequence[Tensor]) -> Tensor:
        """The network's input from uint8 RGB images of one size: ``[B, 3, H', W']``.

        The short side is resized to ``short_side``, that of very long images to less; then both
        sides are rounded to whole cells.
        """
        network, (height, width) = self.network, images_HW3[0].shape[:2]
        scale, stride = resize_scale(height, width, self.short_side), network.feature_stride
        sides = [max(1, round(side * scale / stride)) * stride for side in (height, width)]
        images = torch.stack(list(images_HW3)).to(self._device).permute(0, 3, 1, 2).float() / 255
        resized = F.interpolate(images, sides, mode="bilinear", antialias=True)
        inputs = normalise(resized, network.mean, network.std)
        return inputs.contiguous(memory_format=torch.channels_last)

    def take_statistics(self, images_HW3: Iterable[Tensor]) -> None:
        """Set the network's batch norm statistics to those of uint8 RGB images of any sizes.

        This makes comparisons fair: otherwise random weights would use a normalisation that does
        nothing, and trained weights that of crops of another size. All images are resized to the
        size of the first. Layers beyond ``place`` are not computed.
        """
        network = self.network
        if not any(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in network.modules()):
            return
        inputs = [self.prepare([image]) for image in images_HW3]
        size = inputs[0].shape[2:]
        one_size = torch.cat([F.interpolate(each, size, mode="bilinear") for each in inputs])
        if len(one_size) == 1:  # Batch norm after the image-wide mean needs two images.
            one_size = one_size.repeat(2, 1, 1, 1)
        used = network.backbone if self.place == "backbone" else network
        batches = one_size.tensor_split(math.ceil(len(one_size) / _STATISTICS_BATCH))
        cards = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(cards):  # dropout must not change the run's generator
            update_bn([batch for batch in batches if len(batch) > 1], used)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device
