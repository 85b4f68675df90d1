"""The start of a fine-tuning: its network, initial weights, and learning rates by layer."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from timm.models import group_parameters
from torch import nn

from cp2fast import recipes
from cp2fast.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FinetuneModelSettings,
    FinetuneSettings,
    ModelSettings,
    PretrainSettings,
)
from cp2fast.data.scenes import DEMO_RUN
from cp2fast.errors import UserError
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.run_folder import list_checkpoints
from cp2fast.weights.load import load_weights
from cp2fast.weights.trained import open_trained

RANDOM, IMAGENET = "random", "imagenet"
"""Values of ``model.init`` that are not files."""

_PAPER = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "range": "auto", "bands": None}
_NEW = ("decode_head.conv_seg.", "decode_head.contrast_conv.")
"""Tensors not loaded from the initial weights: a new classifier and an unused projection."""


def resolve(settings: FinetuneSettings) -> FinetuneSettings:
    """The settings with the start and the network filled in.

    Unset values of the network and its images come from the run or checkpoint ``model.init``;
    otherwise, if ``data.root`` is not set, from the demo; otherwise they are ResNet-50 with ASPP on
    ImageNet's mean and deviation, with the images' own range of values and colours. If neither is
    set, the start is the demo's pretraining, if that was run.
    """
    model, network = settings.model, _PAPER | ModelSettings().model_dump()
    if settings.data.root is None:
        network |= recipes.load(PretrainSettings, "demo", []).model.model_dump()
        if model.init is None and list_checkpoints(DEMO_RUN / "checkpoints"):
            model = model.model_copy(update={"init": str(DEMO_RUN)})
    if model.init not in (None, RANDOM, IMAGENET):
        network |= _network_of(str(model.init))
    names = ("backbone", "head", "head_channels", "mean", "std")
    filled = {name: network[name] for name in names if getattr(model, name) is None}
    filled["init"] = model.init or RANDOM
    data = settings.data
    values = {"range": data.range or network["range"], "bands": data.bands or network["bands"]}
    return settings.with_values("model", **filled).with_values("data", **values)


def build_network(model: FinetuneModelSettings, num_classes: int, seed: int) -> Segmenter:
    """The network of resolved settings, with random weights; its projection is not trained."""
    shape = model.model_dump(exclude={"init", "mean", "std"})
    network_settings = ModelSettings.model_validate(shape)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = build_segmenter(network_settings, num_classes)
    network.decode_head.contrast_conv.requires_grad_(False)
    network.mean, network.std = model.mean or IMAGENET_MEAN, model.std or IMAGENET_STD
    return network


def synchronised(network: Segmenter) -> Segmenter:
    """The network with the same weights, whose batch norms take all processes' batches together.

    torch's own conversion drops the activations that timm keeps inside the batch norms of
    EfficientNets and MobileNets.
    """
    converted: Segmenter = convert_sync_batchnorm(network)
    return converted


def load_start(network: Segmenter, model: FinetuneModelSettings) -> str:
    """Load the initial weights into ``network``, and describe them in one line.

    Raises:
        UserError: they are not available or belong to another network; ``network`` is unchanged.
    """
    if model.init in (None, RANDOM):
        return "random initial weights"
    source = f"timm/{model.backbone}" if model.init == IMAGENET else str(model.init)
    report = load_weights(network, source, skip=_NEW)
    missing = [name for name in report.missing if not name.startswith(_NEW)]
    return f"initial weights {source}: {replace(report, missing=missing)}; classifier new"


def parameter_groups(network: Segmenter, layer_decay: float) -> list[dict[str, Any]]:
    """The trained weights in groups, each with ``lr_scale``, the factor of its learning rate.

    The factor is 1 for the head, ``layer_decay`` for the backbone's last layer, its square for the
    layer before, and so on down to the stem (Clark et al., "ELECTRA", 2020; Bao et al., "BEiT",
    2022). Layers are those of timm: the blocks of a transformer or a ResNet. With a factor of 1
    there is a single group.
    """
    learns = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if layer_decay == 1:
        return [{"params": learns}]
    matcher = network.backbone.group_matcher(coarse=False)  # type: ignore[operator]
    layers: dict[str, int] = group_parameters(network.backbone, matcher, reverse=True)
    height = max(layers.values()) + 1
    by_scale: dict[float, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            part, _, own = name.partition(".")
            above = height - layers[own] if part == "backbone" else 0
            by_scale[layer_decay**above].append(parameter)
    return [{"params": group, "lr_scale": scale} for scale, group in by_scale.items()]


def _network_of(init: str) -> dict[str, Any]:
    """The network settings of a run, a checkpoint or an export; empty for foreign weights."""
    try:
        trained = open_trained(init)
        range_, bands = trained.values
        images = {"mean": trained.network.mean, "std": trained.network.std}
        return trained.model.model_dump() | images | {"range": range_, "bands": bands}
    except UserError:
        return {}  # If the file does not exist at all, load_weights reports it.
