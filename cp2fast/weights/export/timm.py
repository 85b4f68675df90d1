"""The backbone as a state dict that timm's model of the same name loads, strictly."""

from __future__ import annotations

from pathlib import Path

import timm
import torch

from cp2fast.model.backbone import feature_map, options_of
from cp2fast.weights.export.exported import (
    Exported,
    largest_difference,
    random_images,
    read_tensors,
    reading_code,
    tensors_as_bytes,
)
from cp2fast.weights.trained import Trained


def export_timm(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.safetensors``, ``.pth`` or ``.pt``."""
    backbone, model = trained.network.backbone, trained.model
    name, size, suffix = model.backbone, model.size, Path(file).suffix
    options = options_of(name, size, pyramid=model.head == "segformer")

    @torch.no_grad()
    def check(path: Path) -> float:
        theirs = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
        theirs.prune_intermediate_layers(1, prune_norm=True, prune_head=True)
        theirs.load_state_dict(read_tensors(path, suffix), strict=True)
        images = random_images(2, size, size)
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
images = torch.rand(1, 3, {size}, {size})  # RGB, ImageNet-normalised
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
        notes=_notes(options),
    )


def _notes(options: dict[str, object]) -> list[str]:
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
    return notes
