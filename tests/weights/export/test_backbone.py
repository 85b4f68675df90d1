"""Exports to timm and torchvision: loaded by them without our help, and compared."""

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
from cp2fast.weights.export.backbone import (
    export_timm,
    export_torchvision,
    read_tensors,
    reading_code,
    tensors_as_bytes,
)
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


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_a_resnet_trained_undilated_is_so_in_torchvision(tmp_path: Path, backbone: str) -> None:
    trained = pretrained(tmp_path, backbone=backbone, head="segformer")
    exported = export_torchvision(trained, "w.pth")
    (tmp_path / "w.pth").write_bytes(exported.content)
    assert exported.check(tmp_path / "w.pth") <= exported.tolerance
    assert "dilation" not in exported.usage
    assert exported.notes == ["The features are at stride 32, as in training."]


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


@pytest.mark.parametrize("backbone", ["convnext_atto", "swin_tiny_patch4_window7_224"])
def test_in_timm_images_of_no_whole_cells_are_compared_padded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str
) -> None:
    trained = pretrained(tmp_path, backbone=backbone, head="linear", size=100)
    exported = export_timm(trained, "w.pth")
    (tmp_path / "w.pth").write_bytes(exported.content)
    assert exported.check(tmp_path / "w.pth") <= exported.tolerance
    cell = trained.network.feature_stride
    assert f"Pad images to a multiple of {cell} pixels" in exported.notes[-1]
    monkeypatch.chdir(tmp_path)
    names: dict[str, torch.Tensor] = {}
    exec(exported.usage, names)  # noqa: S102
    assert names["features"].shape[2] == -(-100 // cell)


def test_the_check_notices_another_network(tmp_path: Path) -> None:
    trained = pretrained(tmp_path)
    exported = export_timm(trained, "w.pth")
    (tmp_path / "w.pth").write_bytes(exported.content)
    with torch.no_grad():
        trained.network.backbone.layer4[1].bn2.weight.mul_(1.001)
    assert exported.check(tmp_path / "w.pth") > exported.tolerance


TENSORS = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_tensors_come_back_and_the_code_for_the_user_reads_them(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(tensors_as_bytes(TENSORS, suffix))
    torch.testing.assert_close(read_tensors(path, suffix), TENSORS)
    imports, expression = reading_code(str(path))
    names = {"torch": torch}
    exec(f"{imports}\nread = {expression}", names)  # noqa: S102
    torch.testing.assert_close(names["read"], TENSORS)
