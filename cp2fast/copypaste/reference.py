"""Copy-paste in kornia and plain torch: slow, clear, on any device; it is the specification.

Every other backend is tested against this one. Each line does one documented step in float32, one
view at a time, without intermediate rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.interface import Composed, Request, empty_outputs
from cp2fast.copypaste.parameters import (
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    KEY_BACKGROUND,
    KEY_FOREGROUND,
    MIRROR,
    QUERY_BACKGROUND,
    QUERY_FOREGROUND,
    SATURATION,
    TRANSPOSE,
)
from cp2fast.copypaste.views import View, unpack


def copy_paste_reference(request: Request) -> Composed:
    """Compose on any device."""
    pixels, views, size, dtype, mean, std = request
    query, key, query_mask, key_mask = empty_outputs(len(views), size, dtype, pixels.device)
    pairs = (
        (query, query_mask, QUERY_FOREGROUND, QUERY_BACKGROUND),
        (key, key_mask, KEY_FOREGROUND, KEY_BACKGROUND),
    )
    for sample, rows in enumerate(views.cpu()):
        for out, mask, foreground, background in pairs:
            top, left, height, width = unpack(rows[foreground]).paste
            mask[sample] = False
            mask[sample, top : top + height, left : left + width] = True
            front, back = (
                normalise(make_view(pixels, unpack(rows[which]), size), mean, std)
                for which in (foreground, background)
            )
            out[sample] = torch.where(mask[sample], front, back)
    return query, key, query_mask, key_mask


def make_view(pixels: Tensor, view: View, size: int) -> Tensor:
    """One complete view before normalisation: float32 ``[3, S, S]`` in [0, 1]."""
    shape, strides = (view.height, view.width, 3), (view.pitch, 3, 1)
    crop_HWC = pixels[view.start :].as_strided(shape, strides)
    x = orient(resize(crop_HWC, size), view.orientation)
    if view.jitter:
        for operation in view.order:
            x = adjust(x, operation, view.factor[operation])
    if view.grey:
        x = to_grey(x)
    if view.sigma > 0:
        x = blur(x, view.sigma)
    return x


def resize(crop_HWC: Tensor, size: int) -> Tensor:
    """Resize a uint8 crop to float32 ``[3, S, S]`` in [0, 1].

    The triangle filter widens with the scale, like Pillow's BILINEAR, and is cut off at the crop's
    edge. Unlike Pillow, it does not round to 8 bits between the two passes or at the end.
    """
    # Computed in float64: float32 positions would change the filter's weights by up to 1e-6.
    x = (crop_HWC.double() / 255).permute(2, 0, 1)[None]
    return interpolate(x, (size, size), mode="bilinear", antialias=True)[0].float()


def orient(x: Tensor, orientation: int) -> Tensor:
    """Apply one of the eight orientations to a square ``[..., S, S]``."""
    if orientation & TRANSPOSE:
        x = x.transpose(-1, -2)
    if orientation & MIRROR:
        x = x.flip(-1)
    if orientation & FLIP:
        x = x.flip(-2)
    return x


def adjust(x: Tensor, operation: int, factor: float) -> Tensor:
    """Apply one operation of torchvision's ColorJitter to an image in [0, 1]; hue is in turns."""
    from kornia import enhance

    adjusted: Tensor
    if operation == BRIGHTNESS:
        adjusted = enhance.adjust_brightness_accumulative(x, factor)
    elif operation == CONTRAST:
        adjusted = enhance.adjust_contrast_with_mean_subtraction(x, factor)
    elif operation == SATURATION:
        adjusted = enhance.adjust_saturation_with_gray_subtraction(x, factor)
    else:
        adjusted = enhance.adjust_hue(x, 2 * math.pi * factor)
    return adjusted


def to_grey(x: Tensor) -> Tensor:
    """The luma of ITU-R BT.601 in all three channels."""
    from kornia.color import rgb_to_grayscale

    luma: Tensor = rgb_to_grayscale(x)
    return luma.expand(3, -1, -1)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur out to three standard deviations, repeating edge pixels; sigma in pixels."""
    from kornia.filters import gaussian_blur2d

    taps = 2 * math.ceil(3 * sigma) + 1
    blurred: Tensor = gaussian_blur2d(
        x[None], (taps, taps), (sigma, sigma), border_type="replicate"
    )
    return blurred[0]


def normalise(
    x: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Subtract the mean and divide by the deviation of each channel; ImageNet's by default."""
    means, stds = (x.new_tensor(values)[:, None, None] for values in (mean, std))
    return (x - means) / stds
