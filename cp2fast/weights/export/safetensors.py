"""The whole network as one .safetensors file, from which ``cp2fast.load`` rebuilds it."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch

from cp2fast import __version__
from cp2fast.weights.export.exported import Exported, largest_difference, random_images
from cp2fast.weights.trained import METADATA_KEY, Trained, open_trained


def export_safetensors(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.safetensors``; its metadata holds the settings and the classes."""
    network, size = trained.network, trained.model.size
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    metadata = {"format": "pt", METADATA_KEY: json.dumps(trained.facts)}

    @torch.no_grad()
    def check(path: Path) -> float:
        theirs = open_trained(path).network
        images = random_images(2, size, size)
        return max(
            largest_difference(network(images), theirs(images)),
            largest_difference(network.embed(images), theirs.embed(images)),
        )

    return Exported(
        content=safetensors.torch.save(state, metadata),
        holds="the whole network",
        check=check,
        library=f"cp2fast {__version__}",
        usage=_usage(trained, file),
    )


def _usage(trained: Trained, file: str) -> str:
    size = trained.model.size
    head = f"""import torch
import cp2fast

network = cp2fast.load({file!r})
images = torch.rand(1, 3, {size}, {size})  # RGB, normalised as below
"""
    if trained.is_finetuned:
        return head + (
            f"logits = network(images)  # one cell for {trained.network.stride} pixels\n"
            "logits = network.upsample(logits, images.shape[2:])\n"
            "labels = logits.argmax(dim=1)  # positions in network.classes\n"
        )
    cell = trained.network.embedding_stride
    return head + (
        f"embedding = network.embed(images)  # one cell for {cell} pixels\n"
        "features = network.backbone.forward_features(images)  # a timm model\n"
    )
