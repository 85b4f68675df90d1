"""Segmentation heads: ASPP, FCN, a linear head, and SegFormer's, which uses all stages.

ASPP is from Chen et al., "Rethinking Atrous Convolution", 2017; SegFormer from Xie et al., 2021.

A head maps features ``[B, in_channels, h, w]`` to hidden features ``[B, channels, h, w]``. It also
has two 1x1 projections of these: ``contrast_conv`` to the dense embedding of the contrast, and
``conv_seg``, after ``dropout``, to class logits. Layers, names and initial weights are those of
mmsegmentation's heads, which the original uses; the linear head is DINOv2's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import reduce
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cp2fast.model.dilated import DilatedConv2d
from cp2fast.model.pooled import PooledConv2d

ASPP_DILATIONS = (1, 6, 12, 18)
DROPOUT = 0.1


class AsppHead(nn.Module):
    """Four dilated convolutions and an image-wide mean, joined by a 3x3 bottleneck."""

    def __init__(self, in_channels: int, channels: int, embedding: int, num_classes: int) -> None:
        super().__init__()
        self.conv_seg = _conv_seg(channels, num_classes)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.image_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), conv_bn_relu(in_channels, channels, kernel=1)
        )
        self.aspp_modules = nn.ModuleList(
            conv_bn_relu(in_channels, channels, kernel=1 if d == 1 else 3, dilation=d)
            for d in ASPP_DILATIONS
        )
        bottleneck = PooledConv2d(channels, len(ASPP_DILATIONS) * channels, channels)
        self.bottleneck = _bn_relu_after(bottleneck)
        self.contrast_conv = _contrast_conv(channels, embedding)

    def forward(self, features: Tensor) -> Tensor:
        """Hidden features of ``features``."""
        branches = [branch(features) for branch in self.aspp_modules]
        conv, bn, activate = self.bottleneck
        joined = conv(self.image_pool(features), torch.cat(branches, dim=1))
        return activate(bn(joined))  # type: ignore[no-any-return]


class FcnHead(nn.Module):
    """Two convolutions, then one over their concatenated input and output."""

    def __init__(self, in_channels: int, channels: int, embedding: int, num_classes: int) -> None:
        super().__init__()
        self.conv_seg = _conv_seg(channels, num_classes)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.convs = nn.Sequential(
            conv_bn_relu(in_channels, channels, kernel=3),
            conv_bn_relu(channels, channels, kernel=3),
        )
        self.conv_cat = conv_bn_relu(in_channels + channels, channels, kernel=3)
        self.contrast_conv = _contrast_conv(channels, embedding)

    def forward(self, features: Tensor) -> Tensor:
        """Hidden features of ``features``."""
        joined = torch.cat([features, self.convs(features)], dim=1)
        return self.conv_cat(joined)  # type: ignore[no-any-return]


class LinearHead(nn.Module):
    """A linear classifier of each cell: batch norm only, without hidden layers."""

    def __init__(self, in_channels: int, embedding: int, num_classes: int) -> None:
        super().__init__()
        self.conv_seg = _conv_seg(in_channels, num_classes)
        self.dropout = nn.Identity()
        self.bn = nn.BatchNorm2d(in_channels)
        self.contrast_conv = _contrast_conv(in_channels, embedding)

    def forward(self, features: Tensor) -> Tensor:
        """``features``, normalised per channel."""
        return self.bn(features)  # type: ignore[no-any-return]


class SegformerHead(nn.Module):
    """Maps of all stages, each projected to ``channels``, resized to the finest and joined.

    The joining 1x1 convolution and the resizing are both linear, so the convolution is applied
    before resizing, when maps have fewer cells. The result is the same up to rounding.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, embedding: int, num_classes: int
    ) -> None:
        super().__init__()
        self.conv_seg = _conv_seg(channels, num_classes)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.convs = nn.ModuleList(conv_bn_relu(c, channels, kernel=1) for c in in_channels)
        self.fusion_conv = conv_bn_relu(len(in_channels) * channels, channels, kernel=1)
        self.contrast_conv = _contrast_conv(channels, embedding)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Hidden features of ``maps`` (finest first), at the resolution of the finest map."""
        size = maps[0].shape[2:]
        fuse, bn, activate = self.fusion_conv
        weights = fuse.weight.split(fuse.out_channels, dim=1)  # type: ignore[operator]
        fused = [
            F.interpolate(F.conv2d(conv(map_), weight), size, mode="bilinear")
            for conv, map_, weight in zip(self.convs, maps, weights, strict=True)
        ]
        return activate(bn(reduce(torch.add, fused)))  # type: ignore[no-any-return]


Head: TypeAlias = AsppHead | FcnHead | LinearHead | SegformerHead


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int, dilation: int = 1
) -> nn.Sequential:
    """Size-preserving convolution, batch norm and ReLU; He initialisation by fan-out."""
    if dilation == 1:
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    else:
        conv = DilatedConv2d(in_channels, out_channels, dilation)
    return _bn_relu_after(conv)


def _bn_relu_after(conv: nn.Conv2d) -> nn.Sequential:
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(
        OrderedDict(conv=conv, bn=nn.BatchNorm2d(conv.out_channels), activate=nn.ReLU(inplace=True))
    )


def _conv_seg(channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _contrast_conv(channels: int, embedding: int) -> nn.Sequential:
    """The paper's projection (section 3.3), with PyTorch's default initial weights."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True), nn.Conv2d(channels, embedding, 1)
    )
