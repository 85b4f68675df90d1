"""The trained weights of a fine-tuning and their learning rates, layer by layer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from timm.models import group_parameters
from torch import nn

from cp2fast.model.segmenter import Segmenter


def parameter_groups(network: Segmenter, layer_decay: float) -> list[dict[str, Any]]:
    """The trained weights in groups, each with ``lr_scale``, the factor of its learning rate.

    The factor is 1 for the head, ``layer_decay`` for the backbone's last layer, its square for the
    layer before, and so on down to the stem (Clark et al., "ELECTRA", 2020; Bao et al., "BEiT",
    2022). Layers are those of timm: the blocks of a transformer or a ResNet.

    Args:
        network: network; some of its weights may be frozen.
        layer_decay: factor from one layer to the one before; 1 gives a single group.
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
