"""What a fine-tuning starts from: the network of a run, and its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from cp2fast import recipes
from cp2fast.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FinetuneModelSettings,
    FinetuneSettings,
    ModelSettings,
    PretrainSettings,
)
from cp2fast.data.demo import DEMO_RUN
from cp2fast.errors import UserError
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.run_folder import list_checkpoints
from cp2fast.weights.load import load_weights
from cp2fast.weights.trained import open_trained

RANDOM, IMAGENET = "random", "imagenet"
"""Values of ``model.init`` that name no file."""

_PAPER = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "range": "auto", "bands": None}
_NEW = ("decode_head.conv_seg.", "decode_head.contrast_conv.")
"""Not taken from the initial weights: the classifier is new, the projection is not used."""


def resolve(settings: FinetuneSettings) -> FinetuneSettings:
    """The settings with the start and the network filled in.

    What is not set of the network and its images is that of the run or checkpoint ``model.init``,
    else the demo's where ``data.root`` is not set, else ResNet-50 with ASPP on ImageNet's mean and
    deviation, with the images' own range of values and colours. Where neither is set, the start is
    the demo's pretraining if it was run.
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
    return settings.model_copy(
        update={
            "model": model.model_copy(update=filled),
            "data": data.model_copy(update=values),
        }
    )


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


def load_start(network: Segmenter, model: FinetuneModelSettings) -> str:
    """Load the initial weights into ``network``.

    Returns:
        One line that says what became of them.

    Raises:
        UserError: they cannot be had, or belong to another network; ``network`` is unchanged.
    """
    if model.init in (None, RANDOM):
        return "random initial weights"
    source = f"timm/{model.backbone}" if model.init == IMAGENET else str(model.init)
    report = load_weights(network, source, skip=_NEW)
    missing = [name for name in report.missing if not name.startswith(_NEW)]
    return f"initial weights {source}: {replace(report, missing=missing)}; classifier new"


def _network_of(init: str) -> dict[str, Any]:
    """The network of a run, a checkpoint or an export; empty for foreign weights."""
    try:
        trained = open_trained(init)
        range_, bands = trained.values
        images = {"mean": trained.network.mean, "std": trained.network.std}
        return trained.model.model_dump() | images | {"range": range_, "bands": bands}
    except UserError:
        return {}  # Where it is no such file at all, load_weights says so.
