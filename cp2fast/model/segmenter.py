"""The whole segmentation network: what is pretrained, fine-tuned and exported."""

from __future__ import annotations

from torch import Tensor, nn

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, ModelSettings
from cp2fast.model.backbone import Backbone, build_backbone, channels, feature_map, stride
from cp2fast.model.head import AsppHead, FcnHead


class Segmenter(nn.Module):
    """A backbone and a segmentation head.

    Attributes:
        stride: pixels from one cell of the outputs to the next.
        classes: names of the class logits, in order; empty until the network was fine-tuned.
        mean: of red, green and blue in 0 to 1, which its images have less.
        std: of red, green and blue, which its images are divided by.
    """

    def __init__(self, backbone: Backbone, decode_head: AsppHead | FcnHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = decode_head
        self.stride = stride(backbone)
        self.classes: tuple[str, ...] = ()
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Class logits ``[B, num_classes, ceil(H / stride), ceil(W / stride)]``."""
        head = self.decode_head
        hidden = head(feature_map(self.backbone, images_B3HW))
        return head.conv_seg(head.dropout(hidden))  # type: ignore[no-any-return]

    def embed(self, images_B3HW: Tensor) -> Tensor:
        """Dense embedding, not normalised: ``[B, C, ceil(H / stride), ceil(W / stride)]``."""
        head = self.decode_head
        hidden = head(feature_map(self.backbone, images_B3HW))
        return head.contrast_conv(hidden)  # type: ignore[no-any-return]


def build_segmenter(settings: ModelSettings, num_classes: int = 21) -> Segmenter:
    """The network that ``settings`` describe, with random weights from torch's generator.

    Args:
        settings: backbone, head, their sizes and the size of the images.
        num_classes: of ``conv_seg``; PASCAL VOC has 21 with the background.

    Raises:
        UserError: no such backbone.
    """
    backbone = build_backbone(settings.backbone, settings.size)
    build_head = AsppHead if settings.head == "aspp" else FcnHead
    head = build_head(channels(backbone), settings.head_channels, settings.embedding, num_classes)
    return Segmenter(backbone, head)
