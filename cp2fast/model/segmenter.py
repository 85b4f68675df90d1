"""The whole segmentation network, which is pretrained, fine-tuned and exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, assert_never

import torch.nn.functional as F
from torch import Tensor, nn

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, ModelSettings
from cp2fast.errors import UserError
from cp2fast.model.backbone import (
    Backbone,
    build_backbone,
    channels,
    feature_maps,
    has_patches,
    levels,
)
from cp2fast.model.families import OUTPUT_STRIDE
from cp2fast.model.head import AsppHead, FcnHead, Head, LinearHead, SegformerHead


class Segmenter(nn.Module):
    """A backbone and a segmentation head.

    Attributes:
        stride: pixels from one cell of the logits to the next.
        feature_stride: stride of the backbone's last map; image sizes should be multiples of it.
        embedding_stride: stride of the dense embedding.
        classes: class names in the order of the logits; empty before fine-tuning.
        mean: mean of red, green and blue in 0 to 1, subtracted from the images; ``std`` is the
            deviation, by which they are divided.
    """

    def __init__(self, backbone: Backbone, decode_head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = decode_head
        self._levels = levels(backbone)
        self._has_patches = has_patches(backbone)
        self.feature_stride = self._levels[-1].stride
        self.stride = self.embedding_stride = self.feature_stride
        if isinstance(decode_head, SegformerHead):
            self.stride = self._levels[0].stride
            # The dense contrast compares all pairs of cells; a stride of 4 has 256 times as many
            # as a stride of 16.
            self.embedding_stride = max(self.stride, OUTPUT_STRIDE)
        self.is_frozen = False
        self.classes: tuple[str, ...] = ()
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def freeze_backbone(self) -> None:
        """Keep the backbone's weights and statistics fixed from now on, also in training."""
        self.is_frozen = True
        self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Same as for any module, but a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Class logits ``[B, num_classes, ceil(H / stride), ceil(W / stride)]``."""
        head = self.decode_head
        return head.conv_seg(head.dropout(self.hidden(images_B3HW)))  # type: ignore[no-any-return]

    def upsample(self, logits_BKhw: Tensor, size: Sequence[int]) -> Tensor:
        """Logits at each pixel of images of this size (bilinear): ``[B, K, *size]``, not halves.

        Each cell stays where the backbone saw it. On images of no whole cells, the last cells of a
        transformer, a ConvNeXt or a Swin lie partly beyond the border and are cut off there; the
        cells of a ResNet span the image.
        """
        logits = logits_BKhw.float() if logits_BKhw.dtype.itemsize < 4 else logits_BKhw
        if not self._has_patches:
            return F.interpolate(logits, tuple(size), mode="bilinear")
        height, width = logits.shape[2:]
        covered = (height * self.stride, width * self.stride)
        return F.interpolate(logits, covered, mode="bilinear")[..., : size[0], : size[1]]

    def embed(self, images_B3HW: Tensor) -> Tensor:
        """Dense embedding ``[B, C, h, w]`` at ``embedding_stride``, not normalised."""
        return self.project(self.hidden(images_B3HW))

    def hidden(self, images_B3HW: Tensor) -> Tensor:
        """Hidden features of the head, at the resolution of the logits."""
        if isinstance(self.decode_head, SegformerHead):
            hidden = self.decode_head(feature_maps(self.backbone, images_B3HW, self._levels))
            height, width = (_cells(side, self.stride) for side in images_B3HW.shape[2:])
            return hidden[..., :height, :width]  # type: ignore[no-any-return]
        [features] = feature_maps(self.backbone, images_B3HW, self._levels[-1:])
        return self.decode_head(features)  # type: ignore[no-any-return]

    def project(self, hidden_BCHW: Tensor) -> Tensor:
        """The dense embedding of hidden features, averaged down if these are finer."""
        cells = self.embedding_stride // self.stride
        if cells > 1:
            hidden_BCHW = F.avg_pool2d(hidden_BCHW, cells, ceil_mode=True)
        return self.decode_head.contrast_conv(hidden_BCHW)  # type: ignore[no-any-return]


def build_segmenter(settings: ModelSettings, num_classes: int = 21) -> Segmenter:
    """Build the network of ``settings``, with random weights from torch's generator.

    It has ``num_classes`` class logits; those of PASCAL VOC include the background.

    Raises:
        UserError: no such backbone, or the head does not fit it.
    """
    backbone = build_backbone(
        settings.backbone, settings.size, pyramid=settings.head == "segformer"
    )
    return Segmenter(backbone, _build_head(backbone, settings, num_classes))


def _build_head(backbone: Backbone, settings: ModelSettings, num_classes: int) -> Head:
    hidden, embedding = settings.head_channels, settings.embedding
    match settings.head:
        case "aspp":
            return AsppHead(channels(backbone), hidden, embedding, num_classes)
        case "fcn":
            return FcnHead(channels(backbone), hidden, embedding, num_classes)
        case "linear":
            return LinearHead(channels(backbone), embedding, num_classes)
        case "segformer":
            maps = levels(backbone)
            if len(maps) == 1:
                raise UserError(
                    f"model.head=segformer with model.backbone={settings.backbone}: it joins the "
                    "stages of a backbone, and this one has a single scale; use model.head=aspp"
                )
            return SegformerHead([m.channels for m in maps], hidden, embedding, num_classes)
        case _:
            assert_never(settings.head)


def _cells(side: int, stride: int) -> int:
    # Not -(-side // stride): ONNX exporters round divisions of negative numbers towards 0.
    return (side + stride - 1) // stride


def check_size(network: Segmenter, backbone: str, size: int) -> None:
    """Refuse an image size in pixels that is not a multiple of the network's stride.

    Raises:
        UserError: the size does not fit; names the nearest that does.
    """
    cell = network.feature_stride
    if size % cell:
        fits = max(1, round(size / cell)) * cell
        raise UserError(
            f"model.size={size} with model.backbone={backbone}: must be a multiple of {cell}; use "
            f"model.size={fits}"
        )
