"""timm's backbones as sources of feature maps: building one, and its feature maps.

``levels`` describes a backbone; heads, losses, exports and size checks use nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import timm
import torch.nn.functional as F
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cp2fast.model.families import OUTPUT_STRIDE, family_of

Backbone: TypeAlias = nn.Module
"""A timm model of one of ``families.FAMILIES``, cut off after its last feature map."""

_FINEST = 4
"""Smallest stride of the maps used by heads; finer maps are too large and too shallow."""

LOSES_BORDERS = (ConvNeXt, SwinTransformer, SwinTransformerV2)
"""Backbones without padding: pixels beyond the last whole cell of an image would be cut off."""

_PATCHES = (*LOSES_BORDERS, VisionTransformer, Eva)
"""Backbones whose cells are squares side by side, the last ones partly beyond the image."""


@dataclass(frozen=True)
class Level:
    """One feature map of a backbone.

    Attributes:
        index: index among the outputs of timm's ``forward_intermediates``.
        stride: pixels from one cell to the next.
    """

    index: int
    channels: int
    stride: int


def build_backbone(name: str, size: int, *, pyramid: bool = False, **timm_options: Any) -> Backbone:
    """A timm backbone with random weights, without the layers after its last feature map.

    These are the classifier and, for transformers and ConvNeXts, the final norm, as in the
    original. If timm can dilate the last stages, the last map has a stride of 16 pixels: the
    first block of a ResNet's last stage has dilation 1, the others 2 (the original's contracted
    dilation). Images may have any size: transformers resize their position embeddings.

    Args:
        name: a timm model, without a tag for pretrained weights.
        size: side of the images in pixels, for the position embeddings of transformers.
        pyramid: leave the stages undilated, for a head that uses all of them.
        timm_options: options for the timm model; they override the default ones.

    Raises:
        UserError: timm has no such model, or its family is not supported.
    """
    options = options_of(name, size, pyramid=pyramid) | timm_options
    backbone = timm.create_model(name, num_classes=0, global_pool="", **options)
    backbone.prune_intermediate_layers(1, prune_norm=True, prune_head=True)
    return backbone  # type: ignore[no-any-return]


def options_of(name: str, size: int, *, pyramid: bool = False) -> dict[str, Any]:
    """The options that ``build_backbone`` passes to ``timm.create_model`` for these arguments."""
    family = family_of(name)
    options = dict(family.options)
    if family.is_dilated and not pyramid:
        options["output_stride"] = OUTPUT_STRIDE
    if family.is_sized:
        options["img_size"] = size
    return options


def levels(backbone: Backbone) -> tuple[Level, ...]:
    """The feature maps of a backbone, finest first; a plain transformer has only one."""
    deepest: dict[int, Level] = {}
    for index, stage in enumerate(backbone.feature_info):  # type: ignore[arg-type]
        reduction = int(stage["reduction"])
        if reduction >= _FINEST:
            deepest[reduction] = Level(index, int(stage["num_chs"]), reduction)
    return tuple(deepest.values())


def feature_map(backbone: Backbone, images_B3HW: Tensor) -> Tensor:
    """The last feature map, ``[B, channels, ceil(H / stride), ceil(W / stride)]``.

    For a transformer the patch tokens form the map; class and register tokens are left out.
    """
    return feature_maps(backbone, images_B3HW, levels(backbone)[-1:])[0]


def feature_maps(backbone: Backbone, images_B3HW: Tensor, wanted: Sequence[Level]) -> list[Tensor]:
    """The feature maps at some ``levels``, each ``[B, channels, h, w]``.

    Backbones that would cut off pixels beyond the last whole cell see images padded with zeros;
    their finer maps then have cells that lie beyond the image.
    """
    if isinstance(backbone, LOSES_BORDERS):
        cell = levels(backbone)[-1].stride
        height, width = images_B3HW.shape[2:]
        right, bottom = ((cell - side % cell) % cell for side in (width, height))
        images_B3HW = F.pad(images_B3HW, (0, right, 0, bottom))
    return backbone.forward_intermediates(  # type: ignore[operator, no-any-return]
        images_B3HW,
        indices=[level.index for level in wanted],
        output_fmt="NCHW",
        intermediates_only=True,
    )


def has_patches(backbone: Backbone) -> bool:
    """Whether cell number i begins at pixel ``i * stride``, also on images of no whole cells.

    Otherwise padded convolutions spread the cells over the image, from border to border.
    """
    return isinstance(backbone, _PATCHES)


def channels(backbone: Backbone) -> int:
    """Channels of the last feature map."""
    return levels(backbone)[-1].channels
