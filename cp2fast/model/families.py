"""The supported families of timm's backbones, and the options to build them."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import timm

from cp2fast.errors import UserError

OUTPUT_STRIDE = 16
"""Stride in pixels of the last feature map of backbones that can be dilated."""


@dataclass(frozen=True)
class Family:
    """Backbones in one module of ``timm.models`` that are built and used in the same way.

    Attributes:
        is_dilated: whether timm can dilate its last stages instead of striding.
        is_sized: whether it is built for one image size and resizes for others.
        options: additional options for ``timm.create_model``.
    """

    title: str
    module: str
    is_dilated: bool = False
    is_sized: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


_ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}
# Windows keep their size and are shifted on maps of any size, as in Swin's own segmentation code.
# timm's default stochastic depth would draw from torch's generator.
_WINDOWS = {"strict_img_size": False, "always_partition": True, "drop_path_rate": 0.0}

FAMILIES = (
    Family("ResNet, ResNeXt", "resnet", is_dilated=True),
    Family("ConvNeXt, ConvNeXtV2", "convnext", is_dilated=True),
    Family("Swin", "swin_transformer", is_sized=True, options=_WINDOWS),
    Family("SwinV2", "swin_transformer_v2", is_sized=True, options=_WINDOWS),
    Family("ViT (DINO, DINOv2)", "vision_transformer", is_sized=True, options=_ANY_SIZE),
    Family("ViT, rotary (DINOv3)", "eva", is_sized=True, options=_ANY_SIZE),
    Family("EfficientNet", "efficientnet", is_dilated=True),
    Family("MobileNetV3, MobileNetV4", "mobilenetv3"),
)


@cache
def supported() -> Mapping[str, Family]:
    """Families of all backbones by timm's names, without tags of weights, grouped by family."""
    return {name: family for family in FAMILIES for name in timm.list_models(module=family.module)}


def family_of(name: str) -> Family:
    """The family of a backbone.

    Raises:
        UserError: timm has no such model, or its family is not supported.
    """
    known = supported()
    if name in known:
        return known[name]
    if timm.is_model(name):
        raise UserError(
            f"model.backbone={name} is of a family without feature maps that can be used here"
            f"{_nearest(name)}"
        )
    raise UserError(f"model.backbone={name} is not a backbone that timm knows{_nearest(name)}")


def matching(pattern: str) -> dict[str, Family]:
    """The backbones whose names match ``pattern``, with shell wildcards.

    Raises:
        UserError: no name matches.
    """
    known = supported()
    found = {name: known[name] for name in known if fnmatch.fnmatchcase(name, pattern)}
    if not found:
        raise UserError(f"no backbone matches '{pattern}'{_nearest(pattern.strip('*?'))}")
    return found


def _nearest(name: str) -> str:
    """The end of a message: the backbone whose name is near, or what lists all."""
    near = difflib.get_close_matches(name, supported(), n=1)
    return f": the nearest is {near[0]}" if near else ": cp2fast models lists all that can be used"
