"""Networks that other libraries built and saved give the same features once they are read here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torchvision.models as tv
import transformers
from torch import Tensor, nn
from torchvision.models import convnext as tv_convnext
from torchvision.models import swin_transformer as tv_swin

from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone, channels, feature_map
from cp2fast.model.head import LinearHead
from cp2fast.model.segmenter import Segmenter
from cp2fast.weights import foreign
from cp2fast.weights.load import load_weights
from cp2fast.weights.names import to_timm
from tests.weights.export.trained_networks import trained_state


class Case(NamedTuple):
    """A library's network, and timm's of the same shape."""

    theirs: Callable[[], nn.Module]
    backbone: str
    size: int
    options: dict[str, Any]


VIT = {"num_hidden_layers": 1, "image_size": 64}
DINO = {**VIT, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
CONVNEXT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1]}
IN_TIMM = {"dims": (8, 16, 24, 32), "depths": (1, 2, 1, 1), "output_stride": 32}
SWIN = {"embed_dim": 24, "depths": [2, 1], "num_heads": [1, 2]}

HUGGING_FACE = {
    "vit": Case(
        lambda: transformers.ViTModel(
            transformers.ViTConfig(
                **VIT, hidden_size=192, num_attention_heads=3, intermediate_size=768
            )
        ),
        "vit_tiny_patch16_224",
        64,
        {"depth": 1},
    ),
    "dinov2": Case(
        lambda: transformers.Dinov2Model(
            transformers.Dinov2Config(**DINO | {"image_size": 56}, patch_size=14)
        ),
        "vit_small_patch14_dinov2",
        56,
        {"depth": 1},
    ),
    "dinov2 with registers": Case(
        lambda: transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**DINO | {"image_size": 56}, patch_size=14)
        ),
        "vit_small_patch14_reg4_dinov2",
        56,
        {"depth": 1},
    ),
    "dinov3": Case(
        lambda: transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(**DINO, num_register_tokens=4)
        ),
        "vit_small_patch16_dinov3_qkvb",
        64,
        {"depth": 1},
    ),
    "swin": Case(
        lambda: transformers.SwinModel(transformers.SwinConfig(**SWIN, image_size=56)),
        "swin_tiny_patch4_window7_224",
        56,
        SWIN,
    ),
    "swinv2": Case(
        lambda: transformers.Swinv2Model(
            transformers.Swinv2Config(**SWIN, image_size=64, window_size=8)
        ),
        "swinv2_tiny_window8_256",
        64,
        SWIN,
    ),
    "convnext": Case(
        lambda: transformers.ConvNextModel(transformers.ConvNextConfig(**CONVNEXT)),
        "convnext_tiny",
        64,
        IN_TIMM,
    ),
    "convnextv2": Case(
        lambda: transformers.ConvNextV2Model(transformers.ConvNextV2Config(**CONVNEXT)),
        "convnextv2_tiny",
        64,
        IN_TIMM,
    ),
    "dinov3 convnext": Case(
        lambda: transformers.DINOv3ConvNextModel(transformers.DINOv3ConvNextConfig(**CONVNEXT)),
        "convnext_tiny",
        64,
        IN_TIMM,
    ),
    "resnet": Case(
        lambda: transformers.ResNetModel(transformers.ResNetConfig(depths=[1, 1, 1, 1])),
        "resnet50",
        64,
        {"layers": [1, 1, 1, 1], "output_stride": 32},
    ),
}


def network_of(case: Case) -> Segmenter:
    backbone = build_backbone(case.backbone, case.size, **case.options)
    return Segmenter(backbone, LinearHead(channels(backbone), 4, 3)).eval()


@torch.no_grad()
def last_map(theirs: nn.Module, images: Tensor, patch: int | None) -> Tensor:
    """A transformers network's features before its last norm, as a map."""
    for name in ("layernorm", "norm", "layer_norm"):
        if isinstance(getattr(theirs, name, None), nn.LayerNorm):
            setattr(theirs, name, nn.Identity())
    features = theirs(images).last_hidden_state
    if features.ndim == 4:
        return features
    side = images.shape[-1] // patch if patch else 0
    side = side or int((features.shape[1]) ** 0.5)
    return features[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_a_folder_that_transformers_saved_gives_the_same_features(
    tmp_path: Path, name: str
) -> None:
    case = HUGGING_FACE[name]
    theirs = case.theirs().eval()
    trained_state(theirs)
    theirs.save_pretrained(tmp_path)
    network = network_of(case)
    report = load_weights(network, tmp_path)
    backbone = [key for key in network.state_dict() if key.startswith("backbone.")]
    assert set(backbone) <= {*report.matched}
    images = torch.randn(2, 3, case.size, case.size)
    patch = getattr(theirs.config, "patch_size", None) if "swin" not in name else None
    expected = last_map(theirs, images, patch if "convnext" not in name else None)
    with torch.no_grad():
        found = feature_map(network.backbone, images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_folder_of_several_files_is_read_by_its_index(tmp_path: Path) -> None:
    case = HUGGING_FACE["convnext"]
    theirs = case.theirs()
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    report = load_weights(network_of(case), tmp_path)
    assert len(report.matched) == len(theirs.state_dict()) - 2  # the final norm
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(UserError, match="not an index of weights"):
        load_weights(network_of(case), tmp_path)


def convnext_of_torchvision() -> nn.Module:
    sides = (*zip((8, 16, 24), (16, 24, 32), (1, 2, 1), strict=True), (32, None, 1))
    return tv.ConvNeXt([tv_convnext.CNBlockConfig(*side) for side in sides])


def swin_of_torchvision(version: int) -> nn.Module:
    window = {1: [7, 7], 2: [8, 8]}[version]
    v2 = {
        "block": tv_swin.SwinTransformerBlockV2,
        "downsample_layer": tv_swin.PatchMergingV2,
    }
    return tv.SwinTransformer(
        patch_size=[4, 4], window_size=window, **SWIN, **(v2 if version == 2 else {})
    )


TORCHVISION = {
    "convnext": Case(convnext_of_torchvision, "convnext_tiny", 64, IN_TIMM),
    "swin": Case(partial(swin_of_torchvision, 1), "swin_tiny_patch4_window7_224", 56, SWIN),
    "swinv2": Case(partial(swin_of_torchvision, 2), "swinv2_tiny_window8_256", 64, SWIN),
    "efficientnet": Case(tv.efficientnet_b0, "efficientnet_b0", 64, {"output_stride": 32}),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_state_dict_of_torchvisions_gives_the_same_features(tmp_path: Path, name: str) -> None:
    case = TORCHVISION[name]
    theirs = case.theirs().eval()
    trained_state(theirs)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    network = network_of(case)
    load_weights(network, tmp_path / "w.pth")
    images = torch.randn(2, 3, case.size, case.size)
    stages = theirs.features[:-1] if name == "efficientnet" else theirs.features
    with torch.no_grad():
        expected = stages(images)
        found = feature_map(network.backbone, images)
    expected = expected.permute(0, 3, 1, 2) if "swin" in name else expected
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["SwinTransformer", "VisionTransformer"])
def test_a_backbone_of_mmsegmentations_gives_the_same_features(tmp_path: Path, kind: str) -> None:
    from cp2fast.weights.export.mmseg import stand_in_for_mmcv_ops

    stand_in_for_mmcv_ops()
    from mmseg.models import backbones

    if kind == "SwinTransformer":
        # mmseg's has four stages; the windows of the last are whole, and are not shifted.
        shape = {"depths": (2, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
        theirs = backbones.SwinTransformer(embed_dims=24, pretrain_img_size=224, **shape)
        case = Case(lambda: theirs, "swin_tiny_patch4_window7_224", 224, {"embed_dim": 24, **shape})
    else:
        theirs = backbones.VisionTransformer(
            img_size=(64, 64),
            embed_dims=192,
            num_layers=1,
            num_heads=3,
            norm_cfg={"type": "LN", "eps": 1e-6},  # as mmseg's own configurations set it
        )
        case = Case(lambda: theirs, "vit_tiny_patch16_224", 64, {"depth": 1})
    theirs.eval()
    trained_state(theirs)
    state = {f"backbone.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "w.pth")
    network = network_of(case)
    load_weights(network, tmp_path / "w.pth")
    images = torch.randn(1, 3, case.size, case.size)
    with torch.no_grad():
        expected = theirs(images)[-1]
        found = feature_map(network.backbone, images)
        if kind == "SwinTransformer":  # normalises what it gives
            found = theirs.norm3(found.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_tables_of_positions_in_a_window_are_resized(tmp_path: Path) -> None:
    case = TORCHVISION["swin"]
    wide = tv.SwinTransformer(patch_size=[4, 4], window_size=[12, 12], **SWIN)
    torch.save(wide.state_dict(), tmp_path / "w.pth")
    assert "3 tables of positions in a window resized" in str(
        load_weights(network_of(case), tmp_path / "w.pth")
    )


def test_the_names_of_a_torchvision_transformer_are_timms() -> None:
    """Also those of torchvision 0.12, which called the layers of the MLP by name."""
    with torch.device("meta"):
        theirs = tv.vit_b_16().state_dict()
        ours = timm.create_model("vit_base_patch16_224").state_dict()
    classifier = {"heads.head.weight", "heads.head.bias", "head.weight", "head.bias"}
    renamed = {name: tensor.shape for name, tensor in to_timm(theirs, foreign.TORCHVISION).items()}
    expected = {name: tensor.shape for name, tensor in ours.items()}
    assert {item for item in renamed.items() ^ expected.items() if item[0] not in classifier} == (
        set()
    )
    names = ["class_token", "encoder.layers.encoder_layer_3.mlp.linear_2.bias"]
    old = to_timm(dict.fromkeys(names, torch.zeros(1)), foreign.TORCHVISION)
    assert list(old) == ["cls_token", "blocks.3.mlp.fc2.bias"]
