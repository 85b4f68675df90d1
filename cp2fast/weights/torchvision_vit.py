"""Names of a vision transformer's tensors in torchvision and in timm.

Both libraries compute the same from the same tensors, and their fused query, key and value weights
have the same order.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

NAMES = [  # torchvision, timm
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
]


def to_torchvision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names of current torchvision."""
    table = [(timm, torchvision) for torchvision, timm in NAMES if ".linear_" not in torchvision]
    return {_replace(name, table): tensor for name, tensor in tensors.items()}


def _replace(name: str, table: list[tuple[str, str]]) -> str:
    for old, new in table:
        name = name.replace(old, new)
    return name
