"""Any timm ResNet or vision transformer gives a feature map of known channels and stride."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone, channels, feature_map, levels


@pytest.mark.parametrize(
    ("name", "expected_channels", "expected_stride"),
    [
        ("resnet18", 512, 16),
        ("resnet50", 2048, 16),
        ("seresnext26d_32x4d", 2048, 16),
        ("vit_tiny_patch16_224", 192, 16),
        ("vit_small_patch32_224", 384, 32),
        ("vit_small_patch14_reg4_dinov2", 384, 14),  # register tokens, layer scale
        ("vit_small_patch16_dinov3", 384, 16),  # rotary positions
        ("convnext_atto", 320, 16),
        ("convnextv2_atto", 320, 16),
        ("swin_tiny_patch4_window7_224", 768, 32),
        ("swinv2_tiny_window8_256", 768, 32),
        ("efficientnet_lite0", 320, 16),
        ("mobilenetv4_conv_small", 960, 32),
    ],
)
def test_the_map_has_the_promised_shape(
    name: str, expected_channels: int, expected_stride: int
) -> None:
    backbone = build_backbone(name, size=224).eval()
    assert (channels(backbone), levels(backbone)[-1].stride) == (expected_channels, expected_stride)
    for height, width in [(224, 224), (70, 130)]:
        features = feature_map(backbone, torch.randn(1, 3, height, width))
        cells = [-(-side // expected_stride) for side in (height, width)]
        assert list(features.shape) == [1, expected_channels, *cells]


def test_the_last_stage_of_a_resnet_is_dilated_from_its_second_block_on() -> None:
    layer4 = build_backbone("resnet50", size=224).layer4
    assert [block.conv2.dilation for block in layer4] == [(1, 1), (2, 2), (2, 2)]
    assert {conv.stride for conv in layer4.modules() if isinstance(conv, nn.Conv2d)} == {(1, 1)}


def test_a_cell_of_a_transformer_is_the_patch_at_its_place() -> None:
    backbone = build_backbone("vit_tiny_patch16_224", size=64, depth=1).eval()
    for parameter in (backbone.pos_embed, *backbone.blocks.parameters()):
        nn.init.zeros_(parameter)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(
        feature_map(backbone, images)[:, :, 1, 2],
        backbone.patch_embed.proj(images[:, :, 16:32, 32:48]).flatten(1),
    )


@pytest.mark.parametrize(
    ("case", "name"),
    [("r50_aspp", "resnet50"), ("vits_aspp", "vit_small_patch16_224")],
)
def test_names_and_shapes_are_the_original_ones(golden: Path, case: str, name: str) -> None:
    prefix = "module.encoder_q.backbone."
    lines = (golden / f"state_dict_keys_{case}.txt").read_text().splitlines()
    rows = [line.split("\t")[:2] for line in lines if line.startswith(prefix)]
    state = build_backbone(name, size=224).state_dict()
    assert {n: str(tuple(t.shape)) for n, t in state.items()} == {
        n.removeprefix(prefix): shape for n, shape in rows
    }


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet5", "resnet50"), ("vit_smal_patch16_224", "vit_small_patch16_224")],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=rf"model.backbone={name} .* the nearest is {nearest}$"):
        build_backbone(name, size=224)


@pytest.mark.parametrize(
    ("name", "instead"),
    [("resnetv2_50", r"the nearest is resnet\w+"), ("mixer_b16_224", "cp2fast models lists .*")],
)
def test_a_model_of_another_family_is_refused_with_one_that_is_near(
    name: str, instead: str
) -> None:
    with pytest.raises(UserError, match=rf"model.backbone={name} .* used here: {instead}$"):
        build_backbone(name, size=224)
