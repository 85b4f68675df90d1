"""Which weights a fine-tuning moves, and how fast: the head, and the backbone layer by layer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from timm.models import group_parameters
from torch import nn

from cp2fast.model.segmenter import Segmenter


def parameter_groups(network: Segmenter, layer_decay: float) -> list[dict[str, Any]]:
    """The weights that learn, for an optimiser; each group's ``lr_scale`` is of its learning rate.

    The head's is 1, that of the backbone's last layer ``layer_decay``, of the one before it the
    square, and so on down to the stem (Clark et al., "ELECTRA", 2020; Bao et al., "BEiT", 2022).
    Layers are timm's: blocks of a transformer, of a ResNet its blocks.

    Args:
        network: network of which some weights may be frozen.
        layer_decay: 1 makes one group of all.
    """
    learns = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if layer_decay == 1:
        return [{"params": learns}]
    layers = _layers(network.backbone)
    height = max(layers.values()) + 1
    by_scale: dict[float, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            part, _, own = name.partition(".")
            above = height - layers[own] if part == "backbone" else 0
            by_scale[layer_decay**above].append(parameter)
    return [{"params": group, "lr_scale": scale} for scale, group in by_scale.items()]


def _layers(backbone: nn.Module) -> dict[str, int]:
    """The layer of each parameter by name, from 0 at the stem."""
    matcher = backbone.group_matcher(coarse=False)  # type: ignore[operator]
    return group_parameters(backbone, matcher, reverse=True)  # type: ignore[no-any-return]
