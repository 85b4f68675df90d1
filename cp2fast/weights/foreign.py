"""Names that other libraries use for the tensors of timm's backbones.

Covered are the original releases, Hugging Face's transformers, torchvision, mmsegmentation and
mmpretrain; lightly, lightly-train and solo-learn keep the names of the backbones that they train,
which are timm's, torchvision's or a release's, under prefixes of their own.
"""

from __future__ import annotations

import re

from cp2fast.weights.names import Names, Rule, Tensors, next_stage

TORCHVISION_VIT = (  # torchvision, timm
    ("class_token", "cls_token"),
    ("conv_proj.", "patch_embed.proj."),
    ("encoder.pos_embedding", "pos_embed"),
    ("encoder.layers.encoder_layer_", "blocks."),
    ("encoder.ln.", "norm."),
    (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."),
    (".self_attention.in_proj_", ".attn.qkv."),
    (".self_attention.out_proj.", ".attn.proj."),
    (".mlp.linear_1.", ".mlp.fc1."),  # torchvision up to 0.12
    (".mlp.linear_2.", ".mlp.fc2."),
    (".mlp.0.", ".mlp.fc1."),
    (".mlp.3.", ".mlp.fc2."),
)
"""Names of a vision transformer; both libraries fuse query, key and value in the same order."""
_CONVNEXT_BLOCK: tuple[Rule, ...] = (
    (r"\b(dwconv|depthwise_conv)\.", "conv_dw."),
    (r"\b(pwconv|pointwise_conv)([12])\.", r"mlp.fc\2."),
    (r"\bgrn\.gamma$", "mlp.grn.weight"),
    (r"\bgrn\.beta$", "mlp.grn.bias"),
    (r"(?<!mlp\.)\bgrn\.", "mlp.grn."),
    (r"\blayer_scale_parameter$", "gamma"),
    (r"\b(layernorm|layer_norm)\.", "norm."),
)
_OPENMMLAB_BLOCK: tuple[Rule, ...] = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"\battn\.w_msa\.", "attn."),
    (r"\bffn\.layers\.0\.0\.", "mlp.fc1."),
    (r"\bffn\.layers\.1\.", "mlp.fc2."),
)
_HUGGING_FACE_BLOCK: tuple[Rule, ...] = (
    (r"\battention\.(?:attention\.|self\.)?(q|k|v)(uery|ey|alue|_proj)\.", r"attn.\1."),
    (r"\battention\.(output\.dense|o_proj)\.", "attn.proj."),
    (r"\battention\.(self|relative_position_bias)\.", "attn."),
    (r"\blayernorm_before\.", "norm1."),
    (r"\blayernorm_after\.", "norm2."),
    (r"\b(intermediate\.dense|mlp\.up_proj|mlp\.weights_in)\.", "mlp.fc1."),
    (r"\b(output\.dense|mlp\.down_proj|mlp\.weights_out)\.", "mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
_SWIN_BUFFERS = r"relative_position_index$|relative_coords_table$|attn_mask$"


def _registers_apart(tensors: Tensors) -> Tensors:
    """Add the class token's position to the token, leaving only the patches' positions.

    This is the form in which timm has DINOv2's networks with registers.
    """
    if "reg_token" not in tensors or "pos_embed" not in tensors:
        return tensors
    positions = tensors["pos_embed"]
    return tensors | {
        "cls_token": tensors["cls_token"] + positions[:, :1],
        "pos_embed": positions[:, 1:],
    }


def _with_patch_bias(tensors: Tensors) -> Tensors:
    """Give a patch embedding without a bias a bias of 0."""
    weight = tensors.get("patch_embed.proj.weight")
    if weight is None or "patch_embed.proj.bias" in tensors:
        return tensors
    return tensors | {"patch_embed.proj.bias": weight.new_zeros(len(weight))}


def _merges_as_sliced(tensors: Tensors) -> Tensors:
    """Reorder the inputs of 2 x 2 patch merging; mmcv has them channels first, as ``nn.Unfold``."""
    converted = dict(tensors)
    for name, tensor in tensors.items():
        found = re.search(r"downsample\.(norm|reduction)\.", name)
        reduction = tensors.get(re.sub(r"norm\.\w+$", "reduction.weight", name), tensor)
        # SwinV2 normalises after the reduction, whose outputs are in order.
        if found and tensor.shape[-1] == reduction.shape[-1]:
            inputs = tensor.reshape(*tensor.shape[:-1], -1, 2, 2)  # [..., C, row, column]
            converted[name] = inputs.transpose(-1, -3).flatten(-3)  # [..., column, row, C]
    return converted


_EFFICIENTNET_BLOCK = {
    "0.0": "conv_pw",
    "0.1": "bn1",
    "1.0": "conv_dw",
    "1.1": "bn2",
    "2.fc1": "se.conv_reduce",
    "2.fc2": "se.conv_expand",
    "3.0": "conv_pwl",
    "3.1": "bn3",
}
_EFFICIENTNET_FIRST_BLOCK = {
    "0.0": "conv_dw",
    "0.1": "bn1",
    "1.fc1": "se.conv_reduce",
    "1.fc2": "se.conv_expand",
    "2.0": "conv_pw",
    "2.1": "bn2",
}


def _in_efficientnet(found: re.Match[str]) -> str:
    """Name of a layer in a block of torchvision; blocks of the first stage have no expansion."""
    layers = _EFFICIENTNET_FIRST_BLOCK if found[1] == "1" else _EFFICIENTNET_BLOCK
    return f"blocks.{int(found[1]) - 1}.{found[2]}.{layers[found[3]]}."


HUGGING_FACE = (
    Names(  # ViT, DeiT, DINO, MAE; DINOv2 and DINOv3
        r"embeddings\.cls_token",
        (
            (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.register_tokens$", "reg_token"),
            (r"^embeddings\.", ""),
            (r"^(encoder\.|model\.)?layers?\.", "blocks."),
            (r"\blayer_scale([12])\.lambda1$", r"ls\1.gamma"),
            *_HUGGING_FACE_BLOCK,
        ),
        convert=_registers_apart,
    ),
    Names(  # Swin, SwinV2
        r"embeddings\.norm\.weight",
        (
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^embeddings\.norm\.", "patch_embed.norm."),
            (r"^encoder\.layers\.(\d+)\.downsample\.", next_stage("layers.", ".downsample.")),
            (r"^encoder\.", ""),
            *_HUGGING_FACE_BLOCK,
            (r"\bcontinuous_position_bias_mlp\.", "cpb_mlp."),
        ),
        dropped=_SWIN_BUFFERS,
    ),
    Names(  # ConvNeXt, ConvNeXtV2
        r"embeddings\.layernorm\.weight",
        (
            (r"^embeddings\.patch_embeddings\.", "stem.0."),
            (r"^embeddings\.layernorm\.", "stem.1."),
            (r"^encoder\.stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
            (r"^encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
            (r"^layernorm\.", "head.norm."),
            *_CONVNEXT_BLOCK,
        ),
    ),
    Names(  # DINOv3's ConvNeXts
        r"stages\.0\.downsample_layers\.0\.weight",
        (
            (r"^stages\.0\.downsample_layers\.", "stem."),
            (r"^stages\.(\d+)\.downsample_layers\.", r"stages.\1.downsample."),
            (r"^stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
            (r"^layer_norm\.", "head.norm."),
            *_CONVNEXT_BLOCK,
        ),
    ),
    Names(  # ResNet
        r"embedder\.embedder\.convolution\.weight",
        (
            (r"^embedder\.embedder\.convolution\.", "conv1."),
            (r"^embedder\.embedder\.normalization\.", "bn1."),
            (r"^encoder\.stages\.(\d+)\.layers\.", next_stage("layer", ".")),
            (r"\bshortcut\.convolution\.", "downsample.0."),
            (r"\bshortcut\.normalization\.", "downsample.1."),
            (r"\blayer\.(\d+)\.convolution\.", next_stage("conv", ".")),
            (r"\blayer\.(\d+)\.normalization\.", next_stage("bn", ".")),
        ),
    ),
)

OPENMMLAB = (
    Names(  # Swin
        r"stages\.0\.downsample\.reduction\.weight",
        (
            (r"^stages\.(\d+)\.downsample\.", next_stage("layers.", ".downsample.")),
            (r"^stages\.", "layers."),
            *_OPENMMLAB_BLOCK,
        ),
        dropped=_SWIN_BUFFERS,
        convert=_merges_as_sliced,
    ),
    Names(  # mmpretrain's SwinV2, whose downsampling begins a stage
        r"stages\.0\.blocks\.0\.attn\.w_msa\.logit_scale",
        ((r"^stages\.", "layers."), *_OPENMMLAB_BLOCK),
        dropped=_SWIN_BUFFERS,
        convert=_merges_as_sliced,
    ),
    Names(  # ViT, and mmpretrain's DINOv2
        r"layers\.0\.ln1\.weight",
        (
            (r"^layers\.", "blocks."),
            (r"^ln1\.", "norm."),
            (r"\bln([12])\.", r"norm\1."),
            (r"\battn\.attn\.in_proj_", "attn.qkv."),
            (r"\battn\.attn\.out_proj\.", "attn.proj."),
            *_OPENMMLAB_BLOCK,
            (r"\b(attn|ffn)\.gamma([12])\.weight$", r"ls\2.gamma"),
        ),
        convert=_with_patch_bias,
    ),
)

RELEASES = (
    Names(  # ConvNeXt and ConvNeXtV2; mmpretrain's have almost the same names
        r"downsample_layers\.0\.0\.weight",
        (
            (r"^downsample_layers\.0\.", "stem."),
            (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
            (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
            (r"^norm\.", "head.norm."),
            *_CONVNEXT_BLOCK,
        ),
    ),
    Names(  # Swin, SwinV2
        r"layers\.0\.downsample\.reduction\.weight",
        ((r"^layers\.(\d+)\.downsample\.", next_stage("layers.", ".downsample.")),),
        dropped=_SWIN_BUFFERS,
    ),
    Names(  # DINOv2's training code, which groups blocks in chunks
        r"blocks\.0\.0\.norm1\.weight",
        ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."), (r"^register_tokens$", "reg_token")),
        convert=_registers_apart,
    ),
    Names(r"register_tokens", ((r"^register_tokens$", "reg_token"),), convert=_registers_apart),
    Names(  # DINOv3
        r"storage_tokens",
        ((r"^storage_tokens$", "reg_token"),),
        dropped=r"\bbias_mask$|\bperiods$|^local_cls_norm\.",
    ),
)

TORCHVISION = (
    Names(r"class_token", tuple((re.escape(old), new) for old, new in TORCHVISION_VIT)),
    Names(  # ConvNeXt
        r"features\.1\.0\.layer_scale",
        (
            (r"^features\.0\.", "stem."),
            (r"^features\.(\d+)\.(\d+)\.(?=block|layer_scale)", lambda m: _blocks("stages", m)),
            (r"^features\.(\d+)\.", lambda m: f"stages.{int(m[1]) // 2}.downsample."),
            (r"\bblock\.0\.", "conv_dw."),
            (r"\bblock\.2\.", "norm."),
            (r"\bblock\.3\.", "mlp.fc1."),
            (r"\bblock\.5\.", "mlp.fc2."),
            (r"\blayer_scale$", "gamma"),
        ),
    ),
    Names(  # Swin, SwinV2
        r"features\.1\.0\.attn\.proj\.weight",
        (
            (r"^features\.0\.0\.", "patch_embed.proj."),
            (r"^features\.0\.2\.", "patch_embed.norm."),
            (r"^features\.(\d+)\.(\d+)\.", lambda m: _blocks("layers", m)),
            (r"^features\.(\d+)\.", lambda m: f"layers.{int(m[1]) // 2}.downsample."),
            (r"\bmlp\.0\.", "mlp.fc1."),
            (r"\bmlp\.3\.", "mlp.fc2."),
        ),
        dropped=_SWIN_BUFFERS,
    ),
    Names(  # EfficientNet
        r"features\.1\.0\.block\.1\.fc1\.weight",
        (
            (r"^features\.0\.0\.", "conv_stem."),
            (r"^features\.0\.1\.", "bn1."),
            (r"^features\.8\.0\.", "conv_head."),
            (r"^features\.8\.1\.", "bn2."),
            (r"^features\.(\d+)\.(\d+)\.block\.(\d\.(?:fc)?\d)\.", _in_efficientnet),
        ),
    ),
)

LAYOUTS = (*HUGGING_FACE, *OPENMMLAB, *RELEASES, *TORCHVISION)


def _blocks(stages: str, found: re.Match[str]) -> str:
    """Name of a torchvision block: ``features`` has blocks at 1, 3, 5, 7, others at 2, 4, 6."""
    return f"{stages}.{int(found[1]) // 2}.blocks.{found[2]}."
