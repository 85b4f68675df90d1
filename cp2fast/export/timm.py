"""The backbone as a state dict that timm's model of the same name loads, strictly."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from cp2fast.export.exported import (
    Exported,
    largest_difference,
    random_images,
    read_tensors,
    reading_code,
    tensors_as_bytes,
)
from cp2fast.model.backbone import RESNET_OUTPUT_STRIDE, feature_map
from cp2fast.weights.trained import Trained


def export_timm(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.safetensors``, ``.pth`` or ``.pt``."""
    backbone, name, size = trained.network.backbone, trained.model.backbone, trained.model.size
    suffix = Path(file).suffix
    is_transformer = isinstance(backbone, VisionTransformer)
    options = (
        {"img_size": size, "dynamic_img_size": True, "final_norm": False, "global_pool": ""}
        if is_transformer
        else {"output_stride": RESNET_OUTPUT_STRIDE}
    )

    @torch.no_grad()
    def check(path: Path) -> float:
        theirs = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
        theirs.load_state_dict(read_tensors(path, suffix), strict=True)
        images = random_images(2, size, size)
        ours = feature_map(backbone, images)
        features = theirs.forward_features(images)
        return largest_difference(ours, _as_map(theirs, features) if is_transformer else features)

    imports, read = reading_code(file)
    arguments = "".join(f", {key}={value!r}" for key, value in options.items())
    usage = f"""import timm
import torch
{imports}
backbone = timm.create_model("{name}", pretrained=False, num_classes=0{arguments})
backbone.load_state_dict({read}, strict=True)
backbone.eval()
images = torch.rand(1, 3, {size}, {size})  # RGB, ImageNet-normalised
features = backbone.forward_features(images)
"""
    notes = [
        "The final norm was not part of the pretraining: final_norm=False leaves it out."
        if is_transformer
        else f"output_stride={RESNET_OUTPUT_STRIDE} is how it was trained; the weights also load "
        "without it, for features at stride 32.",
    ]
    return Exported(
        content=tensors_as_bytes(backbone.state_dict(), suffix),
        holds="the backbone",
        check=check,
        tolerance=1e-5,
        library=f"timm {timm.__version__}",
        usage=usage,
        notes=notes,
    )


def _as_map(transformer: VisionTransformer, tokens: Tensor) -> Tensor:
    grid: Tensor = tokens[:, transformer.num_prefix_tokens :]
    side = round(grid.shape[1] ** 0.5)
    return grid.transpose(1, 2).reshape(len(grid), -1, side, side)
