"""What a fine-tuning starts from: the network of a run, and its weights."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from cp2fast import recipes
from cp2fast.config import FinetuneModelSettings, FinetuneSettings, ModelSettings, PretrainSettings
from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.model.weights import load_weights

RANDOM, IMAGENET = "random", "imagenet"
"""Values of ``model.init`` that name no file."""

DEMO_RUN = Path("runs/demo")

_NEW = ("decode_head.conv_seg.", "decode_head.contrast_conv.")
"""Not taken from the initial weights: the classifier is new, the projection is not used."""


def resolve(settings: FinetuneSettings) -> FinetuneSettings:
    """The settings with the start and the network filled in.

    What is not set of the network is that of the run or checkpoint ``model.init``, else the
    demo's where ``data.root`` is not set, else ResNet-50 with ASPP. Where neither is set, the start
    is the demo's pretraining if it was run.
    """
    model, network = settings.model, ModelSettings().model_dump()
    if settings.data.root is None:
        network = recipes.load(PretrainSettings, "demo", []).model.model_dump()
        if model.init is None and list(DEMO_RUN.glob("checkpoints/*.pt")):
            model = model.model_copy(update={"init": str(DEMO_RUN)})
    if model.init not in (None, RANDOM, IMAGENET):
        network |= _network_of(Path(str(model.init)))
    names = ("backbone", "head", "head_channels")
    filled = {name: network[name] for name in names if getattr(model, name) is None}
    filled["init"] = model.init or RANDOM
    return settings.model_copy(update={"model": model.model_copy(update=filled)})


def build_network(model: FinetuneModelSettings, num_classes: int, seed: int) -> Segmenter:
    """The network of resolved settings, with random weights; its projection is not trained."""
    network_settings = ModelSettings.model_validate(model.model_dump(exclude={"init"}))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = build_segmenter(network_settings, num_classes)
    network.decode_head.contrast_conv.requires_grad_(False)
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
    if model.init == IMAGENET:
        return _load_imagenet(network, model)
    report = load_weights(network, Path(str(model.init)), skip=_NEW)
    missing = [name for name in report.missing if not name.startswith(_NEW)]
    return f"initial weights {model.init}: {replace(report, missing=missing)}; classifier new"


def _load_imagenet(network: Segmenter, model: FinetuneModelSettings) -> str:
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.CRITICAL)  # It would log each of its retries.
    try:
        pretrained = build_backbone(str(model.backbone), model.size, pretrained=True)
    except UserError:
        raise
    except Exception as error:  # timm and its hub raise anything: no network, no weights, no tag.
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"timm's ImageNet weights of {model.backbone} cannot be downloaded ({reason}): put a "
            "state dict here and name it with model.init=FILE, or use model.init=random"
        ) from error
    finally:
        hub.setLevel(level)
    network.backbone.load_state_dict(pretrained.state_dict())
    return f"initial weights of the backbone: timm's for {model.backbone}; head random"


def _network_of(init: Path) -> dict[str, Any]:
    """The model section of a run's or checkpoint's own settings; empty for foreign weights."""
    try:
        if init.is_dir():
            stored = yaml.safe_load((init / "config.yaml").read_text("utf-8"))
        elif init.suffix == ".safetensors":
            return {}
        else:
            stored = torch.load(init, map_location="cpu", weights_only=True, mmap=True)["settings"]
        return dict(stored["model"])
    except (OSError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError):
        return {}  # Foreign weights, or no weights at all, of which load_weights says more.
    except yaml.YAMLError:
        return {}
