"""The whole network under the names of mmsegmentation's modules, as the original CP2 has it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer

from cp2fast import __version__
from cp2fast.errors import UserError
from cp2fast.export.exported import Exported, largest_difference, random_images
from cp2fast.model.segmenter import build_segmenter
from cp2fast.model.trained import Trained
from cp2fast.model.weights import load_weights

_CONTRAST = "decode_head.contrast_conv."


def export_mmseg(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.pth`` or ``.pt``: ``meta`` and ``state_dict``, as mmseg writes it.

    A fine-tuned network goes without the projection of the contrast, for which mmseg's heads have
    no place; a pretrained one has it, as the original's checkpoints do.

    Raises:
        UserError: neither mmseg nor the original CP2 has such a backbone.
    """
    network, name = trained.network, trained.model.backbone
    depth = re.fullmatch(r"resnet(18|34|50|101|152)", name)
    if depth is None and not isinstance(network.backbone, VisionTransformer):
        raise UserError(
            f"mmseg's ResNet is resnet18, 34, 50, 101 or 152, not {name}: use --to timm or "
            "--to safetensors"
        )
    state = {
        key: tensor
        for key, tensor in network.state_dict().items()
        if not (trained.is_finetuned and key.startswith(_CONTRAST))
    }
    buffer = io.BytesIO()
    torch.save({"meta": {"CLASSES": list(network.classes)}, "state_dict": state}, buffer)

    @torch.no_grad()
    def check(path: Path) -> float:
        with torch.random.fork_rng(devices=[]):
            theirs = build_segmenter(trained.model, len(network.decode_head.conv_seg.weight)).eval()
        load_weights(theirs, path)
        images = random_images(2, trained.model.size, trained.model.size)
        if trained.is_finetuned:
            return largest_difference(network(images), theirs(images))
        return largest_difference(network.embed(images), theirs.embed(images))

    return Exported(
        content=buffer.getvalue(),
        holds="the whole network",
        check=check,
        tolerance=1e-5,
        library=f"cp2fast {__version__} itself",
        usage=_usage(trained, file, depth[1] if depth else None),
        notes=_notes(depth[1] if depth else None),
    )


def _usage(trained: Trained, file: str, depth: str | None) -> str:
    """An mmseg configuration for ResNets; for transformers the state dict alone."""
    if depth is None:
        return f"""import torch

state = torch.load("{file}", weights_only=True)["state_dict"]
backbone = {{k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}}
"""
    model, network = trained.model, trained.network
    width = network.backbone.num_features
    head = (
        'type="ASPPHead", dilations=(1, 6, 12, 18)'
        if model.head == "aspp"
        else 'type="FCNHead", num_convs=2, concat_input=True'
    )
    return f"""model = dict(
    type="EncoderDecoder",
    init_cfg=dict(type="Pretrained", checkpoint="{file}"),
    backbone=dict(
        type="ResNet", depth={depth}, num_stages=4, out_indices=(0, 1, 2, 3), style="pytorch",
        strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), contract_dilation=True,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
    ),
    decode_head=dict(
        {head}, in_channels={width}, in_index=3,
        channels={model.head_channels}, num_classes={len(network.decode_head.conv_seg.weight)},
        dropout_ratio=0.1, align_corners=False, norm_cfg=dict(type="SyncBN", requires_grad=True),
    ),
)
"""


def _notes(depth: str | None) -> list[str]:
    notes = [
        "The names are those of mmsegmentation's modules; the file was read back into a new "
        "network of cp2fast, not into mmsegmentation.",
        "decode_head.contrast_conv, where present, is the projection of the contrast: mmseg "
        "reports it as unexpected and does without.",
    ]
    if depth in ("18", "34"):
        notes.append(
            "mmseg dilates the first convolution of a basic block where timm, and hence this "
            "network, dilates the second too: the weights fit, the last stage's outputs differ."
        )
    if depth is None:
        notes.append(
            "The transformer's names are timm's, as in the original CP2; mmseg's own "
            "VisionTransformer has others."
        )
    return notes
