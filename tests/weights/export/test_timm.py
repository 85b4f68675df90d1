"""Exports to timm: loaded by it without our help, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from cp2fast.model.backbone import feature_map
from cp2fast.weights.export.timm import export_timm
from tests.weights.export.trained_networks import pretrained

IMAGES = torch.randn(1, 3, 64, 96)


@pytest.mark.parametrize("file", ["w.safetensors", "w.pth"])
def test_a_resnet_gives_the_same_features_in_timm(tmp_path: Path, file: str) -> None:
    trained = pretrained(tmp_path)
    exported = export_timm(trained, file)
    path = tmp_path / file
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance
    theirs = timm.create_model("resnet18", num_classes=0, output_stride=16, checkpoint_path=path)
    with torch.no_grad():
        ours = feature_map(trained.network.backbone, IMAGES)
        torch.testing.assert_close(theirs.eval().forward_features(IMAGES), ours)


def test_a_transformer_gives_the_same_features_in_timm(tmp_path: Path) -> None:
    trained = pretrained(tmp_path, backbone="vit_tiny_patch16_224")
    exported = export_timm(trained, "w.safetensors")
    path = tmp_path / "w.safetensors"
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance
    theirs = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=64, dynamic_img_size=True
    )
    assert theirs.load_state_dict(load_file(path), strict=False).missing_keys == [
        "norm.weight",
        "norm.bias",
    ]
    options = {"indices": 1, "norm": False, "intermediates_only": True}
    with torch.no_grad():
        [features] = theirs.eval().forward_intermediates(IMAGES, **options)
        torch.testing.assert_close(features, feature_map(trained.network.backbone, IMAGES))


def test_the_check_notices_another_network(tmp_path: Path) -> None:
    trained = pretrained(tmp_path)
    exported = export_timm(trained, "w.pth")
    (tmp_path / "w.pth").write_bytes(exported.content)
    with torch.no_grad():
        trained.network.backbone.layer4[1].bn2.weight.mul_(1.001)
    assert exported.check(tmp_path / "w.pth") > exported.tolerance
