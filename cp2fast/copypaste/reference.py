"""Copy-paste in kornia and plain torch: slow, clear, on any device; the specification.

Every other backend is held to this one. Each line does one documented thing in float32, view by
view, with no rounding in between.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cp2fast.copypaste.parameters import (
    BRIGHTNESS,
    CONTRAST,
    KEY_BACKGROUND,
    KEY_FOREGROUND,
    QUERY_BACKGROUND,
    QUERY_FOREGROUND,
    SATURATION,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def copy_paste_reference(
    pixels: Tensor,
    offset: Tensor,
    height: Tensor,
    width: Tensor,
    source: Tensor,
    box: Tensor,
    flip: Tensor,
    jitter: Tensor,
    factor: Tensor,
    order: Tensor,
    grey: Tensor,
    sigma: Tensor,
    paste: Tensor,
    size: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compose every sample's query and key.

    Args:
        pixels: with ``offset``, ``height`` and ``width``, the images: see ``RaggedBatch``.
        offset: int64 ``[N]``.
        height: int32 ``[N]``.
        width: int32 ``[N]``.
        source: with the eight that follow, what happens to each view: see ``Parameters``.
        box: int32 ``[B, V, 4]``.
        flip: bool ``[B, V]``.
        jitter: bool ``[B, V]``.
        factor: float32 ``[B, V, 4]``.
        order: int32 ``[B, V, 4]``.
        grey: bool ``[B, V]``.
        sigma: float32 ``[B, V]``.
        paste: int32 ``[B, 2, 4]``.
        size: side S of the output.
        dtype: of the composed images.

    Returns:
        query and key ``[B, 3, S, S]`` channels-last, query mask and key mask bool ``[B, S, S]``.
    """

    def view(sample: int, name: int) -> Tensor:
        at = sample, name
        number = source[at]
        begin, h, w = (int(field[number]) for field in (offset, height, width))
        image_HWC = pixels[begin : begin + h * w * 3].view(h, w, 3)
        x = crop_and_resize(image_HWC, box[at].tolist(), size)
        if flip[at]:
            x = x.flip(-1)
        if jitter[at]:
            for operation in order[at].tolist():
                x = adjust(x, operation, float(factor[at][operation]))
        if grey[at]:
            x = to_grey(x)
        if sigma[at] > 0:
            x = blur(x, float(sigma[at]))
        return normalise(x)

    query = torch.empty(
        (len(source), 3, size, size),
        dtype=dtype,
        device=pixels.device,
        memory_format=torch.channels_last,
    )
    key = torch.empty_like(query)
    query_mask = pixels.new_zeros((len(source), size, size), dtype=torch.bool)
    key_mask = torch.zeros_like(query_mask)
    for sample in range(len(source)):
        for out, mask, foreground, background, (top, left, h, w) in (
            (query, query_mask, QUERY_FOREGROUND, QUERY_BACKGROUND, paste[sample, 0].tolist()),
            (key, key_mask, KEY_FOREGROUND, KEY_BACKGROUND, paste[sample, 1].tolist()),
        ):
            mask[sample, top : top + h, left : left + w] = True
            out[sample] = torch.where(
                mask[sample], view(sample, foreground), view(sample, background)
            )
    return query, key, query_mask, key_mask


def crop_and_resize(image_HWC: Tensor, box: list[int], size: int) -> Tensor:
    """The crop of a uint8 image as float32 ``[3, S, S]`` in [0, 1].

    The triangle filter widens with the scale, as Pillow's BILINEAR does, and stops at the crop's
    edge; unlike Pillow it does not round to 8 bits between the two passes or at the end.
    """
    top, left, height, width = box
    # In float64, as positions in float32 would move the filter's weights by up to 1e-6.
    crop_HWC = image_HWC[top : top + height, left : left + width].double() / 255
    x = interpolate(crop_HWC.permute(2, 0, 1)[None], (size, size), mode="bilinear", antialias=True)
    return x[0].float()


def adjust(x: Tensor, operation: int, factor: float) -> Tensor:
    """One operation of torchvision's ColorJitter on an image in [0, 1]; hue is in turns."""
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
    """Gaussian blur over three standard deviations, edge pixels repeated; sigma in pixels."""
    from kornia.filters import gaussian_blur2d

    taps = 2 * math.ceil(3 * sigma) + 1
    blurred: Tensor = gaussian_blur2d(
        x[None], (taps, taps), (sigma, sigma), border_type="replicate"
    )
    return blurred[0]


def normalise(x: Tensor) -> Tensor:
    """Zero mean and unit deviation over ImageNet's pixels."""
    mean, std = (x.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std
