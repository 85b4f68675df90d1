"""Names of other libraries' tensors become timm's."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import timm.models.convnext
import timm.models.eva
import timm.models.vision_transformer
import torch

from cp2fast.weights.foreign import LAYOUTS
from cp2fast.weights.names import fitted, to_timm
from tests.weights.export.trained_networks import trained_state

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


RELEASES: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "convnext_atto": (
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
        timm.models.vision_transformer.checkpoint_filter_fn,
        [(r"^reg_token$", "register_tokens")],
    ),
    "vit_small_patch16_dinov3": (
        timm.models.eva.checkpoint_filter_fn,
        [(r"^reg_token$", "storage_tokens"), (r"gamma_([12])$", r"ls\1.gamma")],
    ),
}


@pytest.mark.parametrize("name", RELEASES)
def test_released_files_are_read_as_timm_reads_them(name: str) -> None:
    read, rules = RELEASES[name]
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
