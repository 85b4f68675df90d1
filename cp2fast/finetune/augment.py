"""Random crops of labelled images, cut in the decoding threads and assembled on the device.

This is the augmentation of the paper's fine-tuning (section 4.1), mmsegmentation's for PASCAL VOC:
random scale, a crop that is not almost all one class, a flip, photometric distortion.

    decode -> draw_crop -> cut      in a loader thread; only the crop's pixels are transferred
           -> assemble -> distort   on the device: resize, flip, pad; colours of the whole batch
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, FinetuneSettings
from cp2fast.copypaste.reference import normalise
from cp2fast.labels.masks import IGNORED
from cp2fast.philox import Stream, uniform

MAX_ASPECT = 4
"""Images with a larger aspect ratio are scaled as if they had this one, by their long side."""
MAX_SHARE = 0.75
"""Largest share of one class in a crop's labelled pixels; ``_TRIES`` crops are tried for it."""
_TRIES = 10
FLIP = 0.5
DISTORT = 0.5
"""Probability of each of the four distortions."""
BRIGHTNESS = 32 / 255
CONTRAST = SATURATION = (0.5, 1.5)
HUE = 0.1
"""Largest shift, in turns."""

# Blocks of four random numbers per image: scale and flip, colours, then the crops to try.
_GEOMETRY, _COINS, _FACTORS, _PLACES = 0, 1, 2, 3


@dataclass(frozen=True)
class Crop:
    """The pixels of one crop before they are resized, and what happens to them.

    Attributes:
        image: uint8 ``[h, w, 3]``.
        labels: uint8 ``[h, w]``.
        size: height and width after resizing; at most the side of the crops.
        flip: whether to mirror it left to right.
        colour: eight uniform numbers in [0, 1) for ``distort``.
    """

    image: Tensor
    labels: Tensor
    size: tuple[int, int]
    flip: bool
    colour: tuple[float, ...]


def cut(
    image_HWC: Tensor, labels_HW: Tensor, settings: FinetuneSettings, epoch: int, index: int
) -> Crop:
    """Draw one crop of a uint8 image and its uint8 labels.

    It is a pure function of the seed, the epoch, the image's index in the data set, and the labels.
    """
    blocks = np.arange(_PLACES + _TRIES)
    random = uniform(settings.train.seed, Stream.LABELLED, epoch, index, blocks)
    data, side = settings.data, settings.model.size
    relative = data.scale_low + random[_GEOMETRY, 0] * (data.scale_high - data.scale_low)
    height, width = labels_HW.shape
    scale = resize_scale(height, width, max(1, round(data.short_side * relative)))
    h, w = (min(length, max(1, round(side / scale))) for length in (height, width))
    for top, left in np.floor(random[_PLACES:, :2] * [height - h + 1, width - w + 1]).astype(int):
        labels = labels_HW[top : top + h, left : left + w]
        if _is_mixed(labels):
            break
    return Crop(
        image=image_HWC[top : top + h, left : left + w],
        labels=labels,
        size=(_resized(h, scale, side), _resized(w, scale, side)),
        flip=bool(random[_GEOMETRY, 1] < FLIP),
        colour=tuple(random[[_COINS, _FACTORS]].ravel().tolist()),
    )


def resize_scale(height: int, width: int, short_side: int) -> float:
    """The factor that scales the short side to ``short_side``; smaller for very long images."""
    return min(short_side / min(height, width), MAX_ASPECT * short_side / max(height, width))


def assemble(
    crops: Sequence[Crop],
    side: int,
    device: torch.device,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> tuple[Tensor, Tensor]:
    """Resize, flip, pad, distort and normalise B crops on ``device``; ``side`` is S.

    Returns:
        Normalised images float32 ``[B, 3, S, S]`` channels-last, 0 in the padding, and labels
        uint8 ``[B, S, S]``, 255 in the padding.
    """
    images = torch.zeros(len(crops), 3, side, side, device=device)
    labels = torch.full((len(crops), side, side), IGNORED, dtype=torch.uint8, device=device)
    inside = torch.zeros(len(crops), 1, side, side, dtype=torch.bool, device=device)
    for number, crop in enumerate(crops):
        height, width = crop.size
        image_CHW = crop.image.to(device, non_blocking=True).permute(2, 0, 1).float() / 255
        image = resize(image_CHW[None], crop.size)[0]
        label = interpolate(
            crop.labels.to(device, non_blocking=True)[None, None], crop.size, mode="nearest-exact"
        )[0, 0]
        images[number, :, :height, :width] = image.flip(-1) if crop.flip else image
        labels[number, :height, :width] = label.flip(-1) if crop.flip else label
        inside[number, :, :height, :width] = True
    colour = torch.tensor([crop.colour for crop in crops], device=device)
    images = torch.where(inside, normalise(distort(images, colour), mean, std), 0)
    return images.contiguous(memory_format=torch.channels_last), labels


def resize(images_B3HW: Tensor, size: Sequence[int]) -> Tensor:
    """Resize bilinearly, with antialiasing when shrinking, as Pillow does."""
    return interpolate(images_B3HW, tuple(size), mode="bilinear", antialias=True)


def distort(images_B3HW: Tensor, random_B8: Tensor) -> Tensor:
    """Photometric distortion (Liu et al., "SSD", 2016) as in mmsegmentation.

    Brightness, contrast, saturation and hue each change with probability one half. Contrast is
    changed second or last, with probability one half each. The values stay in [0, 1].

    Args:
        images_B3HW: RGB images in [0, 1].
        random_B8: uniform in [0, 1): whether each of brightness, contrast, saturation and hue
            changes, and by how much. The position of contrast is decided by the remainder of
            brightness's coin, which is independent of its outcome.
    """
    coins, amounts = random_B8[:, :4], random_B8[:, 4:]
    chosen = coins < DISTORT
    contrast_last = (coins[:, 0] / DISTORT) % 1 < 0.5

    def amount(column: int, low: float, high: float, neutral: float) -> Tensor:
        drawn = low + amounts[:, column] * (high - low)
        return drawn.where(chosen[:, column], neutral)[:, None, None, None]

    brightness = amount(0, -BRIGHTNESS, BRIGHTNESS, 0)
    contrast = amount(1, *CONTRAST, 1)
    saturation = amount(2, *SATURATION, 1)
    hue = amount(3, -HUE, HUE, 0)
    early, late = (
        contrast.where(when[:, None, None, None], 1) for when in (~contrast_last, contrast_last)
    )
    x = ((images_B3HW + brightness).clamp(0, 1) * early).clamp(0, 1)
    h, s, v = hsv_of(x)
    turned = rgb_of((h + hue) % 1, (s * saturation).clamp(0, 1), v)
    distorted: Tensor = (turned * late).clamp(0, 1)
    return distorted


def hsv_of(images_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in turns, saturation and value (Smith, 1978) of RGB in [0, 1], each ``[B, 1, H, W]``."""
    red, green, blue = images_B3HW.tensor_split(3, dim=1)
    value = images_B3HW.amax(dim=1, keepdim=True)
    spread = value - images_B3HW.amin(dim=1, keepdim=True)
    divisor = spread.where(spread > 0, 1)
    of_green, of_blue = 2 + (blue - red) / divisor, 4 + (red - green) / divisor
    sixths = of_green.where(value == green, of_blue)
    sixths = ((green - blue) / divisor).where(value == red, sixths)
    return (sixths / 6) % 1, spread / value.where(value > 0, 1), value


def rgb_of(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The inverse of ``hsv_of``: ``[B, 3, H, W]``.

    A channel is ``value`` where the hue is within a sixth of a turn of its own, falls linearly over
    the next sixth, and is ``value * (1 - saturation)`` beyond.
    """
    sixths = (6 * hue + torch.tensor([5, 3, 1], device=hue.device).view(3, 1, 1)) % 6
    away = torch.minimum(sixths, 4 - sixths).clamp(0, 1)
    return value - value * saturation * away


def _is_mixed(labels: Tensor) -> bool:
    """Whether there is more than one class and none has almost all of the labelled pixels."""
    counts = torch.bincount(labels.reshape(-1), minlength=IGNORED + 1)[:IGNORED]
    return int((counts > 0).sum()) > 1 and int(counts.max()) < MAX_SHARE * int(counts.sum())


def _resized(length: int, scale: float, side: int) -> int:
    return min(side, max(1, round(length * scale)))
