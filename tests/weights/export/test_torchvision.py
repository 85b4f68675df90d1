"""Exports to torchvision: loaded by it without our help, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torchvision.models.feature_extraction import create_feature_extractor

from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone, channels, feature_map
from cp2fast.model.head import FcnHead
from cp2fast.model.segmenter import Segmenter
from cp2fast.weights.export.torchvision import export_torchvision
from tests.weights.export.trained_networks import around, pretrained

IMAGES = torch.randn(1, 3, 64, 96)


def test_a_resnet50_gives_the_same_features_in_torchvision(tmp_path: Path) -> None:
    trained, path = pretrained(tmp_path, backbone="resnet50"), tmp_path / "w.pth"
    exported = export_torchvision(trained, path.name)
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[False, False, True])
    missing = theirs.load_state_dict(torch.load(path, weights_only=True), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    extractor = create_feature_extractor(theirs.eval(), {"layer4": "features"})
    with torch.no_grad():
        ours = feature_map(trained.network.backbone, IMAGES)
        torch.testing.assert_close(extractor(IMAGES)["features"], ours)


def test_basic_blocks_are_compared_without_dilation_and_the_card_says_so(tmp_path: Path) -> None:
    trained, path = pretrained(tmp_path), tmp_path / "w.safetensors"
    exported = export_torchvision(trained, path.name)
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance
    assert "cannot be dilated" in exported.notes[0]
    theirs = torchvision.models.resnet18()
    theirs.load_state_dict(load_file(path), strict=False)
    undilated = timm.create_model("resnet18", num_classes=0).eval()
    undilated.load_state_dict(trained.network.backbone.state_dict())
    extractor = create_feature_extractor(theirs.eval(), {"layer4": "features"})
    with torch.no_grad():
        ours = undilated.forward_features(IMAGES)
        torch.testing.assert_close(extractor(IMAGES)["features"], ours)


@pytest.mark.slow
def test_a_transformer_gives_the_same_tokens_in_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):  # quicker than weights that are overwritten
        backbone = build_backbone("vit_base_patch32_224", 64)
        network = Segmenter(backbone, FcnHead(channels(backbone), 8, 4, 3))
    for tensor in network.to_empty(device="cpu").state_dict().values():
        tensor.copy_(torch.empty(tensor.shape).uniform_(-0.03, 0.03).abs())
    trained = around(network, backbone="vit_base_patch32_224")
    exported = export_torchvision(trained, "w.pth")
    path = tmp_path / "w.pth"
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance
    monkeypatch.chdir(tmp_path)
    names: dict[str, torch.Tensor] = {}
    exec(exported.usage, names)  # noqa: S102
    assert names["features"].shape == (1, 5, 768)


@pytest.mark.parametrize(
    ("backbone", "nearest"), [("resnet26", "resnet"), ("vit_tiny_patch16_224", "vit_")]
)
def test_what_torchvision_does_not_have_is_refused(
    tmp_path: Path, backbone: str, nearest: str
) -> None:
    with pytest.raises(
        UserError, match=rf"torchvision has no {backbone} \(the nearest is {nearest}"
    ):
        export_torchvision(pretrained(tmp_path, backbone=backbone), "w.pth")
