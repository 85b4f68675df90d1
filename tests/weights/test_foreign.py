"""Networks that other libraries built and saved give the same features once they are read here."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import timm.models.convnext
import timm.models.eva
import timm.models.swin_transformer
import timm.models.vision_transformer
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
from cp2fast.weights.foreign import LAYOUTS
from cp2fast.weights.load import load_weights
from cp2fast.weights.names import fitted, to_timm
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
    from cp2fast.weights.export.mmcv_ops import stand_in_for_mmcv_ops

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


MMPRETRAIN: dict[str, tuple[dict[str, Any], str]] = {
    "vit_small_patch14_dinov2": (
        {"img_size": 56, "depth": 1},
        """cls_token pos_embed patch_embed.projection.weight patch_embed.projection.bias
        layers.0.ln1.weight layers.0.ln1.bias layers.0.attn.qkv.weight layers.0.attn.qkv.bias
        layers.0.attn.proj.weight layers.0.attn.proj.bias layers.0.attn.gamma1.weight
        layers.0.ln2.weight layers.0.ln2.bias
        layers.0.ffn.layers.0.0.weight layers.0.ffn.layers.0.0.bias
        layers.0.ffn.layers.1.weight layers.0.ffn.layers.1.bias layers.0.ffn.gamma2.weight""",
    ),
    "swinv2_tiny_window8_256": (
        {"depths": (1, 1), "num_heads": (1, 2), "embed_dim": 24},
        "patch_embed.projection.weight patch_embed.projection.bias patch_embed.norm.weight "
        "patch_embed.norm.bias stages.1.downsample.reduction.weight "
        "stages.1.downsample.norm.weight stages.1.downsample.norm.bias "
        + " ".join(
            f"stages.{stage}.blocks.0.{name}"
            for stage in (0, 1)
            for name in (
                *("attn.w_msa.logit_scale", "attn.w_msa.q_bias", "attn.w_msa.v_bias"),
                *("attn.w_msa.relative_coords_table", "attn.w_msa.relative_position_index"),
                *("attn.w_msa.cpb_mlp.0.weight", "attn.w_msa.cpb_mlp.0.bias"),
                *("attn.w_msa.cpb_mlp.2.weight", "attn.w_msa.qkv.weight"),
                *("attn.w_msa.proj.weight", "attn.w_msa.proj.bias"),
                *("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"),
                *("ffn.layers.0.0.weight", "ffn.layers.0.0.bias"),
                *("ffn.layers.1.weight", "ffn.layers.1.bias"),
            )
        ),
    ),
}
"""Names that mmpretrain 1.2.0 gave its own networks of these shapes; it needs all of mmcv."""


@pytest.mark.parametrize("name", MMPRETRAIN)
def test_names_of_mmpretrains_networks_are_timms(name: str) -> None:
    options, recorded = MMPRETRAIN[name]
    wanted = timm.create_model(name, num_classes=0, **options).state_dict()
    theirs = {f"backbone.{key}": torch.zeros(12, 12) for key in recorded.split()}
    ours = fitted(to_timm(theirs, LAYOUTS), wanted)
    learned = {key for key in wanted if not re.search(r"^norm\.|attn_mask|relative_", key)}
    assert {key.removeprefix("backbone.") for key in ours} == learned


RELEASES: dict[str, tuple[str, Any, list[tuple[str, str]]]] = {
    "convnext_atto": (
        "convnext",
        timm.models.convnext.checkpoint_filter_fn,
        [
            (r"^stem\.", "downsample_layers.0."),
            (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
            (r"\.blocks\.", "."),
            (r"^head\.norm\.", "norm."),
            (r"conv_dw", "dwconv"),
            (r"mlp\.fc", "pwconv"),
        ],
    ),
    "vit_small_patch14_reg4_dinov2": (
        "DINOv2",
        timm.models.vision_transformer.checkpoint_filter_fn,
        [(r"^reg_token$", "register_tokens")],
    ),
    "vit_small_patch16_dinov3": (
        "DINOv3",
        timm.models.eva.checkpoint_filter_fn,
        [(r"^reg_token$", "storage_tokens"), (r"gamma_([12])$", r"ls\1.gamma")],
    ),
}


@pytest.mark.parametrize("name", RELEASES)
def test_released_files_are_read_as_timm_reads_them(name: str) -> None:
    _, read, rules = RELEASES[name]
    options = {"img_size": 56 if "14" in name else 64, "depth": 1} if "vit" in name else {}
    model = timm.create_model(name, num_classes=0, **options)
    released = {}
    for key, tensor in trained_state(model).items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        released[key] = tensor.clone()
    if "vit" in name:
        released["mask_token"] = torch.zeros(1, 384)
    if "dinov2" in name:  # the class token has a position there
        released["pos_embed"] = torch.cat([torch.ones(1, 1, 384), released["pos_embed"]], dim=1)
    if "dinov3" in name:
        released["rope_embed.periods"] = torch.ones(16)
        released["blocks.0.attn.qkv.bias"] = torch.zeros(3 * 384)
        released["blocks.0.attn.qkv.bias_mask"] = torch.ones(3 * 384)
    ours = fitted(to_timm(released, LAYOUTS), model.state_dict())
    theirs = read(dict(released), model)
    wanted = [key for key in model.state_dict() if not key.startswith(("norm.", "head."))]
    assert wanted
    for key in wanted:
        assert torch.equal(ours[key].squeeze(), theirs[key].squeeze()), key


def test_tables_of_positions_in_a_window_are_resized(tmp_path: Path) -> None:
    case = TORCHVISION["swin"]
    wide = tv.SwinTransformer(patch_size=[4, 4], window_size=[12, 12], **SWIN)
    torch.save(wide.state_dict(), tmp_path / "w.pth")
    assert "3 tables of positions in a window resized" in str(
        load_weights(network_of(case), tmp_path / "w.pth")
    )
