"""The backbone as a state dict that torchvision's model of the same name loads, strictly."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.models.resnet import BasicBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from cp2fast.errors import UserError
from cp2fast.model.backbone import feature_map
from cp2fast.weights.export.exported import (
    Exported,
    largest_difference,
    random_images,
    read_tensors,
    reading_code,
    tensors_as_bytes,
)
from cp2fast.weights.torchvision_vit import to_torchvision
from cp2fast.weights.trained import Trained

_DILATE_LAST_STAGE = {"replace_stride_with_dilation": [False, False, True]}
"""Gives the output stride of 16 used in training; basic blocks do not support it."""


def export_torchvision(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.safetensors``, ``.pth`` or ``.pt``.

    Raises:
        UserError: torchvision has no such backbone.
    """
    if isinstance(trained.network.backbone, VisionTransformer):
        return _export_transformer(trained, file)
    return _export_resnet(trained, file)


def _export_resnet(trained: Trained, file: str) -> Exported:
    name = trained.model.backbone
    backbone: Any = trained.network.backbone
    known = torchvision.models.list_models(module=torchvision.models, include="*resne*")
    if name not in known:
        raise _no_such(name, known)
    basic = isinstance(backbone.layer1[0], BasicBlock)
    size, suffix = trained.model.size, Path(file).suffix
    options: dict[str, Any] = {} if basic else _DILATE_LAST_STAGE

    @torch.no_grad()
    def check(path: Path) -> float:
        theirs = torchvision.models.get_model(name, weights=None, **options).eval()
        theirs.fc = nn.Identity()
        theirs.load_state_dict(read_tensors(path, suffix), strict=True)
        images = random_images(2, size, size)
        features = create_feature_extractor(theirs, {"layer4": "features"})(images)["features"]
        return largest_difference(_features(trained, images, dilated=not basic), features)

    note = (
        f"torchvision's {name} cannot be dilated: it gives features at stride 32, and was compared "
        "there, with timm's. The network was trained at stride 16."
        if basic
        else "replace_stride_with_dilation is how it was trained (output stride 16); the weights "
        "also load without it, for features at stride 32."
    )
    return Exported(
        content=tensors_as_bytes(backbone.state_dict(), suffix),
        holds="the backbone",
        check=check,
        tolerance=1e-5,
        library=f"torchvision {torchvision.__version__}",
        usage=_usage(name, options, file, "fc", '"layer4"', size),
        notes=[note],
    )


def _export_transformer(trained: Trained, file: str) -> Exported:
    name, size, suffix = trained.model.backbone, trained.model.size, Path(file).suffix
    fits = re.fullmatch(r"vit_(base|large|huge)_patch(\d+)_(224|384)", name)
    theirs_name = f"vit_{fits[1][0]}_{fits[2]}" if fits else ""
    known = torchvision.models.list_models(module=torchvision.models, include="vit_*")
    if theirs_name not in known:
        raise _no_such(name, known)
    backbone: Any = trained.network.backbone
    norm = nn.LayerNorm(backbone.embed_dim)
    state = backbone.state_dict() | {
        f"norm.{key}": tensor for key, tensor in norm.state_dict().items()
    }

    @torch.no_grad()
    def check(path: Path) -> float:
        theirs = torchvision.models.get_model(theirs_name, weights=None, image_size=size).eval()
        theirs.heads = nn.Identity()
        theirs.load_state_dict(read_tensors(path, suffix), strict=True)
        images = random_images(2, size, size)
        extractor = create_feature_extractor(theirs, {"encoder.layers": "features"})
        tokens = extractor(images)["features"]
        return largest_difference(backbone.forward_features(images), tokens)

    return Exported(
        content=tensors_as_bytes(to_torchvision(state), suffix),
        holds="the backbone",
        check=check,
        tolerance=1e-5,
        library=f"torchvision {torchvision.__version__}",
        usage=_usage(theirs_name, {"image_size": size}, file, "heads", '"encoder.layers"', size),
        notes=[
            "The final norm (encoder.ln) was not part of the pretraining: it is as new, and the "
            "features are taken before it."
        ],
    )


def _features(trained: Trained, images_B3HW: Tensor, dilated: bool) -> Tensor:
    """The backbone's feature map, at the stride used in training or at output stride 32."""
    backbone = trained.network.backbone
    if not dilated:
        undilated = timm.create_model(trained.model.backbone, num_classes=0, global_pool="")
        undilated.load_state_dict(backbone.state_dict())
        backbone = undilated.eval()
    return feature_map(backbone, images_B3HW)


def _usage(
    name: str, options: dict[str, Any], file: str, classifier: str, layer: str, size: int
) -> str:
    imports, read = reading_code(file)
    arguments = "".join(f", {key}={value!r}" for key, value in options.items())
    return f"""import torch
import torchvision
{imports}from torchvision.models.feature_extraction import create_feature_extractor

backbone = torchvision.models.get_model("{name}", weights=None{arguments})
backbone.{classifier} = torch.nn.Identity()
backbone.load_state_dict({read}, strict=True)
backbone.eval()
images = torch.rand(1, 3, {size}, {size})  # RGB, ImageNet-normalised
features = create_feature_extractor(backbone, [{layer}])(images)[{layer}]
"""


def _no_such(name: str, known: list[str]) -> UserError:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    return UserError(
        f"torchvision has no {name} (the nearest is {nearest}): use --to timm or --to safetensors"
    )
