"""The heads' layers are right in number, place and initial weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cp2fast.config import ModelSettings
from cp2fast.model.cp2 import build_cp2
from cp2fast.model.head import AsppHead, FcnHead, LinearHead, SegformerHead


@pytest.mark.parametrize("head_type", [AsppHead, FcnHead])
def test_a_head_keeps_the_map_and_gives_its_channels(head_type: type[AsppHead | FcnHead]) -> None:
    head = head_type(in_channels=6, channels=4, embedding=3, num_classes=5)
    hidden = head(torch.randn(2, 6, 7, 9))
    assert hidden.shape == (2, 4, 7, 9)
    assert head.contrast_conv(hidden).shape == (2, 3, 7, 9)
    assert head.conv_seg(hidden).shape == (2, 5, 7, 9)


def test_aspp_is_its_branches_side_by_side_through_the_bottleneck() -> None:
    head = AsppHead(in_channels=6, channels=4, embedding=3, num_classes=5).eval()
    features = torch.randn(2, 6, 20, 20)

    def branch(conv: torch.nn.Module, x: torch.Tensor, dilation: int) -> torch.Tensor:
        padding = dilation * (conv.weight.shape[2] // 2)
        y = F.conv2d(x, conv.weight, padding=padding, dilation=dilation)
        return F.relu(y / math.sqrt(1 + 1e-5))  # fresh batch norm in eval mode

    pooled = branch(head.image_pool[1].conv, features.mean(dim=(2, 3), keepdim=True), 1)
    branches = [F.interpolate(pooled, size=(20, 20), mode="bilinear")]
    for module, dilation in zip(head.aspp_modules, (1, 6, 12, 18), strict=True):
        branches.append(branch(module.conv, features, dilation))
    expected = branch(head.bottleneck.conv, torch.cat(branches, dim=1), 1)
    torch.testing.assert_close(head(features), expected)


def test_segformers_maps_are_resized_to_the_finest_and_joined_by_one_convolution() -> None:
    head = SegformerHead(in_channels=(4, 6), channels=5, embedding=3, num_classes=2).eval()
    maps = [torch.randn(2, 4, 12, 8), torch.randn(2, 6, 6, 4)]
    brought = [conv(map_) for conv, map_ in zip(head.convs, maps, strict=True)]
    resized = [F.interpolate(map_, (12, 8), mode="bilinear") for map_ in brought]
    expected = head.fusion_conv(torch.cat(resized, dim=1))  # as the paper and mmseg have it
    torch.testing.assert_close(head(maps), expected)


def test_a_linear_heads_logits_are_linear_in_each_cell() -> None:
    head = LinearHead(in_channels=6, embedding=3, num_classes=5).eval()
    features = torch.randn(2, 6, 4, 4)
    logits = head.conv_seg(head.dropout(head(features)))
    weight, bias = head.conv_seg.weight.flatten(1), head.conv_seg.bias
    expected = torch.einsum("oc,bchw->bohw", weight, features) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(logits, expected + bias[:, None, None])


def test_initial_weights_are_distributed_as_the_original_ones(golden: Path) -> None:
    state = build_cp2(ModelSettings(queue=64), seed=0).state_dict()
    lines = (golden / "init_stats_r50_aspp.txt").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines if "num_batches" not in line and "_ptr" not in line]
    assert len(rows) > 250
    for name, shape, *numbers in rows:
        tensor, (mean, std) = state[name].double(), map(float, numbers[:2])
        assert str(tuple(tensor.shape)) == shape, name
        error = 5 * std / math.sqrt(tensor.numel())  # both are samples: five standard errors
        assert tensor.mean().item() == pytest.approx(mean, abs=1.5 * error + 1e-12), name
        assert tensor.std(correction=0).item() == pytest.approx(std, abs=error + 1e-12), name
