"""Dense features of whole images from a frozen network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from cp2fast.copypaste.reference import normalise
from cp2fast.model.backbone import feature_map
from cp2fast.model.segmenter import Segmenter

Place = Literal["backbone", "head", "embedding"]
"""Where features are taken: the backbone's last map, the head's hidden map, or the embedding."""

_STATISTICS_BATCH = 16


@torch.no_grad()
def dense_features(network: Segmenter, images_B3HW: Tensor, place: Place) -> Tensor:
    """The features of normalised images in inference mode: float32 ``[B, C, h, w]``."""
    network.eval()
    if place == "backbone":
        return feature_map(network.backbone, images_B3HW).float()
    hidden = network.hidden(images_B3HW)
    return (network.project(hidden) if place == "embedding" else hidden).float()


def prepare(
    images_HW3: Sequence[Tensor], short_side: int, network: Segmenter, device: torch.device
) -> Tensor:
    """Prepare images of one size as network input: ``[B, 3, H', W']`` on ``device``.

    The short side is resized to ``short_side``; then both sides are rounded to whole cells.

    Args:
        images_HW3: images, uint8 RGB.
        short_side: short side in pixels.
        network: network, which gives the stride and its training's mean and deviation.
        device: device of the network.
    """
    height, width = images_HW3[0].shape[:2]
    scale = short_side / min(height, width)
    stride = network.feature_stride
    sides = [max(1, round(side * scale / stride)) * stride for side in (height, width)]
    images = torch.stack(list(images_HW3)).to(device).permute(0, 3, 1, 2).float() / 255
    resized = F.interpolate(images, sides, mode="bilinear", antialias=True)
    inputs = normalise(resized, network.mean, network.std)
    return inputs.contiguous(memory_format=torch.channels_last)


def take_statistics(
    network: Segmenter,
    images_HW3: Sequence[Tensor],
    short_side: int,
    place: Place,
    device: torch.device,
) -> None:
    """Set batch norm statistics to those of these images, for a fair comparison.

    Otherwise random weights would use a normalisation that does nothing, and trained weights that
    of crops of another size. All images are resized to the size of the first.

    Args:
        network: changed in place; unchanged if it has no batch norm.
        images_HW3: uint8 RGB images of any sizes.
        short_side: as in ``prepare``.
        place: layers beyond it are not computed.
        device: device of the network.
    """
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        return
    inputs = [prepare([image], short_side, network, device) for image in images_HW3]
    size = inputs[0].shape[2:]
    one_size = torch.cat([F.interpolate(each, size, mode="bilinear") for each in inputs])
    if len(one_size) == 1:  # Batch norm after the image-wide mean needs two images.
        one_size = one_size.repeat(2, 1, 1, 1)
    used = network.backbone if place == "backbone" else network
    batches = one_size.tensor_split(math.ceil(len(one_size) / _STATISTICS_BATCH))
    cards = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cards):  # the head's dropout must not change the run's generator
        update_bn([batch for batch in batches if len(batch) > 1], used)
