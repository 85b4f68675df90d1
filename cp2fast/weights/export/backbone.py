"""The backbone as a state dict that timm's or torchvision's model of that name loads strictly."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import timm
import torch
import torchvision
from timm.models.resnet import BasicBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from cp2fast.errors import UserError
from cp2fast.model.backbone import LOSES_BORDERS, feature_map, options_of
from cp2fast.weights.export.exported import (
    SAFETENSORS,
    Exported,
    largest_difference,
    random_images,
    side_in_whole_cells,
)
from cp2fast.weights.foreign import TORCHVISION_VIT
from cp2fast.weights.trained import Trained

_DILATE_LAST_STAGE = {"replace_stride_with_dilation": [False, False, True]}
"""Gives the output stride of 16 used in training; basic blocks do not support it."""


def export_timm(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.safetensors``, ``.pth`` or ``.pt``."""
    backbone, model = trained.network.backbone, trained.model
    name, size, suffix = model.backbone, model.size, Path(file).suffix
    options = options_of(name, size, pyramid=model.head == "segformer")
    side = side_in_whole_cells(trained)

    @torch.no_grad()
    def check(path: Path) -> float:
        theirs = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
        theirs.prune_intermediate_layers(1, prune_norm=True, prune_head=True)
        theirs.load_state_dict(read_tensors(path, suffix), strict=True)
        images = random_images(2, side, side)
        [features] = theirs.forward_intermediates(
            images, indices=1, output_fmt="NCHW", intermediates_only=True
        )
        return largest_difference(feature_map(backbone, images), features)

    imports, read = reading_code(file)
    arguments = "".join(f", {key}={value!r}" for key, value in options.items())
    usage = f"""import timm
import torch
{imports}
backbone = timm.create_model("{name}", pretrained=False, num_classes=0{arguments})
backbone.prune_intermediate_layers(1, prune_norm=True, prune_head=True)  # not pretrained
backbone.load_state_dict({read}, strict=True)
backbone.eval()
images = torch.rand(1, 3, {side}, {side})  # RGB, normalised as below
[features] = backbone.forward_intermediates(
    images, indices=1, output_fmt="NCHW", intermediates_only=True
)
"""
    return Exported(
        content=tensors_as_bytes(backbone.state_dict(), suffix),
        holds="the backbone",
        check=check,
        library=f"timm {timm.__version__}",
        usage=usage,
        notes=_notes(trained, options),
    )


def _notes(trained: Trained, options: dict[str, object]) -> list[str]:
    notes = [
        "What follows the last feature map, such as a final norm, was not part of the pretraining: "
        "prune_intermediate_layers leaves it out, and without it load_state_dict needs "
        "strict=False."
    ]
    if "output_stride" in options:
        notes.append(
            f"output_stride={options['output_stride']} is how it was trained; the weights also "
            "load without it, for features at stride 32."
        )
    if isinstance(trained.network.backbone, LOSES_BORDERS):
        notes.append(
            f"Pad images to a multiple of {trained.network.feature_stride} pixels with zeros at "
            "the right and the bottom, as cp2fast does: timm cuts off what is no whole cell."
        )
    return notes


class _Counterpart(NamedTuple):
    """torchvision's model of the same network."""

    name: str
    options: dict[str, Any]
    classifier: str
    """Attribute of its last layers, which are left out."""
    layer: str
    """Layer whose output are the features."""
    state: dict[str, Tensor]
    """The trained tensors by its names."""
    features: Callable[[Tensor], Tensor]
    """Computes the same features with the trained backbone."""
    note: str


def export_torchvision(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.safetensors``, ``.pth`` or ``.pt``.

    Raises:
        UserError: torchvision has no such backbone.
    """
    is_transformer = isinstance(trained.network.backbone, VisionTransformer)
    theirs = _transformer(trained) if is_transformer else _resnet(trained)
    size, suffix = trained.model.size, Path(file).suffix

    @torch.no_grad()
    def check(path: Path) -> float:
        model = torchvision.models.get_model(theirs.name, weights=None, **theirs.options).eval()
        setattr(model, theirs.classifier, nn.Identity())
        model.load_state_dict(read_tensors(path, suffix), strict=True)
        extractor = create_feature_extractor(model, {theirs.layer: "features"})
        images = random_images(2, size, size)
        return largest_difference(theirs.features(images), extractor(images)["features"])

    return Exported(
        content=tensors_as_bytes(theirs.state, suffix),
        holds="the backbone",
        check=check,
        library=f"torchvision {torchvision.__version__}",
        usage=_usage(theirs, file, size),
        notes=[theirs.note],
    )


def _resnet(trained: Trained) -> _Counterpart:
    name, backbone = trained.model.backbone, trained.network.backbone
    known = torchvision.models.list_models(module=torchvision.models, include="*resne*")
    if name not in known:
        raise _no_such(name, known)
    dilated = False
    if trained.model.head == "segformer":
        note = "The features are at stride 32, as in training."
    elif isinstance(backbone.layer1[0], BasicBlock):  # type: ignore[index]
        note = (
            f"torchvision's {name} cannot be dilated: it gives features at stride 32, and was "
            "compared there, with timm's. The network was trained at stride 16."
        )
    else:
        dilated = True
        note = (
            "replace_stride_with_dilation is how it was trained (output stride 16); the weights "
            "also load without it, for features at stride 32."
        )
    return _Counterpart(
        name=name,
        options=_DILATE_LAST_STAGE if dilated else {},
        classifier="fc",
        layer="layer4",
        state=backbone.state_dict(),
        features=lambda images: _features(trained, images, dilated),
        note=note,
    )


def _transformer(trained: Trained) -> _Counterpart:
    ours, backbone = trained.model.backbone, trained.network.backbone
    fits = re.fullmatch(r"vit_(base|large|huge)_patch(\d+)_(224|384)", ours)
    name = f"vit_{fits[1][0]}_{fits[2]}" if fits else ""
    known = torchvision.models.list_models(module=torchvision.models, include="vit_*")
    if name not in known:
        raise _no_such(ours, known)
    norm = nn.LayerNorm(backbone.embed_dim)
    new = {f"norm.{key}": tensor for key, tensor in norm.state_dict().items()}
    return _Counterpart(
        name=name,
        options={"image_size": trained.model.size},
        classifier="heads",
        layer="encoder.layers",
        state={_vit_name(n): tensor for n, tensor in (backbone.state_dict() | new).items()},
        features=backbone.forward_features,  # type: ignore[arg-type]
        note="The final norm (encoder.ln) was not part of the pretraining: it is as new, and the "
        "features are taken before it.",
    )


def _vit_name(name: str) -> str:
    """The name in torchvision of a tensor of timm's vision transformer."""
    for theirs, ours in TORCHVISION_VIT:
        if ".linear_" not in theirs:  # an older name
            name = name.replace(ours, theirs)
    return name


def _features(trained: Trained, images_B3HW: Tensor, dilated: bool) -> Tensor:
    """The backbone's feature map, at the stride used in training or at output stride 32."""
    backbone = trained.network.backbone
    if not dilated:
        undilated = timm.create_model(trained.model.backbone, num_classes=0, global_pool="")
        undilated.load_state_dict(backbone.state_dict())
        backbone = undilated.eval()
    return feature_map(backbone, images_B3HW)


def _usage(theirs: _Counterpart, file: str, size: int) -> str:
    imports, read = reading_code(file)
    arguments = "".join(f", {key}={value!r}" for key, value in theirs.options.items())
    return f"""import torch
import torchvision
{imports}from torchvision.models.feature_extraction import create_feature_extractor

backbone = torchvision.models.get_model("{theirs.name}", weights=None{arguments})
backbone.{theirs.classifier} = torch.nn.Identity()
backbone.load_state_dict({read}, strict=True)
backbone.eval()
images = torch.rand(1, 3, {size}, {size})  # RGB, normalised as below
features = create_feature_extractor(backbone, ["{theirs.layer}"])(images)["{theirs.layer}"]
"""


def _no_such(name: str, known: list[str]) -> UserError:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    return UserError(
        f"torchvision has no {name} (the nearest is {nearest}): use --to timm or --to safetensors"
    )


def tensors_as_bytes(tensors: Mapping[str, Tensor], suffix: str) -> bytes:
    """A state dict as the content of a file with this suffix."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if suffix == SAFETENSORS:
        return safetensors.torch.save(contiguous, {"format": "pt"})

    buffer = io.BytesIO()
    torch.save(contiguous, buffer)
    return buffer.getvalue()


def read_tensors(path: Path, suffix: str) -> dict[str, Tensor]:
    """Read a file of ``tensors_as_bytes`` as a user would; ``path`` need not have the suffix."""
    if suffix == SAFETENSORS:
        return safetensors.torch.load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def reading_code(file: str) -> tuple[str, str]:
    """Code for the user: the import besides torch, and the expression that reads ``file``."""
    if file.endswith(SAFETENSORS):
        return "from safetensors.torch import load_file\n", f"load_file({file!r})"
    return "", f"torch.load({file!r}, weights_only=True)"
