"""Backbones: timm's ResNets at output stride 16 and its vision transformers, as feature maps."""

from __future__ import annotations

import difflib
from typing import Any, TypeAlias

import timm
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cp2fast.errors import UserError

Backbone: TypeAlias = ResNet | VisionTransformer

RESNET_OUTPUT_STRIDE = 16


def build_backbone(name: str, size: int, **timm_options: Any) -> Backbone:
    """A timm backbone with random weights and no classifier; ``feature_map`` runs it.

    The last stage of a ResNet keeps its resolution: its first block has dilation 1, the others 2
    (the original's contracted dilation). A vision transformer has no final norm, as in the
    original, and takes images of any size, for which it resizes its position embedding.

    Args:
        name: a timm ResNet or vision transformer, without a tag for pretrained weights.
        size: side of the images in pixels, for the position embedding of a transformer.
        timm_options: passed to the timm model, over its own.

    Raises:
        UserError: ``name`` is neither.
    """
    resnets = timm.list_models(module="resnet")
    transformers = timm.list_models(module="vision_transformer")
    if name in resnets:
        return timm.create_model(
            name,
            num_classes=0,
            global_pool="",
            output_stride=RESNET_OUTPUT_STRIDE,
            **timm_options,
        )
    if name not in transformers:
        nearest = difflib.get_close_matches(name, resnets + transformers, n=1, cutoff=0)[0]
        raise UserError(
            f"model.backbone={name} is not a ResNet or vision transformer that timm knows: "
            f"the nearest is {nearest}"
        )
    options = {"img_size": size, "dynamic_img_size": True, "dynamic_img_pad": True, **timm_options}
    transformer = timm.create_model(name, num_classes=0, global_pool="", **options)
    transformer.norm = nn.Identity()
    return transformer


def feature_map(backbone: Backbone, images_B3HW: Tensor) -> Tensor:
    """The last feature map, ``[B, channels, ceil(H / stride), ceil(W / stride)]``.

    The tokens of a transformer are laid out as a map, without the class and register tokens.
    """
    [features] = backbone.forward_intermediates(
        images_B3HW, indices=1, output_fmt="NCHW", intermediates_only=True
    )
    return features  # type: ignore[no-any-return]


def channels(backbone: Backbone) -> int:
    """Channels of the feature map."""
    return int(backbone.num_features)


def stride(backbone: Backbone) -> int:
    """Pixels from one cell of the feature map to the next."""
    return int(backbone.feature_info[-1]["reduction"])
