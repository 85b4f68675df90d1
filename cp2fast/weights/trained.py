"""A trained network and information about its training, from a run or an exported file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cp2fast.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AugmentSettings,
    Bands,
    Colour,
    DataSettings,
    Deviations,
    ModelSettings,
    RangeSetting,
)
from cp2fast.data.decoding.levels import Levels
from cp2fast.errors import UserError, is_out_of_memory
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.weights.files import find_file, read_content
from cp2fast.weights.layouts import METADATA

METADATA_KEY = "cp2fast"
"""Metadata key of a .safetensors file for ``Trained.facts`` as JSON."""

_FACTS = ("kind", "settings", "classes", "colours", "step", "images", "versions")
_QUERY_ENCODER = "encoder_q."


@dataclass(frozen=True)
class Trained:
    """A network and its history, read from ``path``.

    Attributes:
        network: network on the CPU, in eval mode; the query encoder for a pretraining run.
        model: settings from which the network was built.
        facts: plain values: ``kind`` (``pretrain`` or ``finetune``), ``settings`` of the run, and
            if known ``classes`` and their ``colours``, ``step``, ``images`` and ``versions``.
    """

    network: Segmenter
    model: ModelSettings
    facts: dict[str, Any]
    path: Path

    @property
    def is_finetuned(self) -> bool:
        """Whether the class logits were trained rather than the embedding."""
        return bool(self.facts.get("kind") == "finetune")

    @property
    def values(self) -> tuple[RangeSetting, Bands | None]:
        """``data.range`` and ``data.bands`` of the training images."""
        recorded = self.facts["settings"].get("data", {})
        known = {key: recorded[key] for key in ("range", "bands") if recorded.get(key)}
        data = DataSettings.model_validate(known)
        return data.range, data.bands

    @property
    def levels(self) -> Levels:
        """``values`` in the form that ``decode_image`` takes."""
        return Levels.of(*self.values)

    @property
    def run_folder(self) -> Path | None:
        """Folder of the run, if the file is one of its checkpoints."""
        folder = self.path.parent
        return folder.parent if folder.name == "checkpoints" else None


class UnknownNetwork(UserError):  # noqa: N818
    """A file of weights that does not say which network they belong to."""


def load(path: str | Path) -> Segmenter:
    """A trained network, on the CPU and in eval mode.

    ``network.embed(images)`` gives dense features ``[B, C, ceil(H / stride), ceil(W / stride)]``.
    ``network.backbone`` is a timm model. After fine-tuning, ``network(images)`` gives logits of
    ``network.classes``. Images are RGB in [0, 1], ``[B, 3, H, W]``, normalised by subtracting
    ``network.mean`` and dividing by ``network.std`` (ImageNet's, unless the run set others).

    Args:
        path: a run folder (its best checkpoint, else its newest), a checkpoint, or a file that
            ``export(run, "safetensors")`` wrote.

    Raises:
        UserError: ``path`` holds no such network.
    """
    return open_trained(path).network


def open_trained(path: str | Path) -> Trained:
    """Read the network of a run folder, a checkpoint or an exported .safetensors file.

    Raises:
        UnknownNetwork: the file was not written by cp2fast.
        UserError: it does not exist or is damaged.
    """
    path = find_file(Path(path))
    content = read_content(path)
    facts = _facts(content)
    if facts is None:
        raise UnknownNetwork(
            f"{path} does not say which network it holds: name a run of cp2fast, its checkpoint "
            "or its export to safetensors; a run starts from other weights with model.init=FILE"
        )
    try:
        model = _model_settings(facts)
        state = _segmenter_state(content)
        classes = len(state["decode_head.conv_seg.weight"])
        with torch.random.fork_rng(devices=[]):
            network = build_segmenter(model, num_classes=classes)
        network.load_state_dict(state)
        network.classes = tuple(facts.get("classes") or ())
        network.mean, network.std = _normalisation(facts["settings"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not hold the network that it describes: {reason}") from error
    return Trained(network.eval(), model, facts, path)


def _facts(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The facts about the training in the file; None if there are none."""
    if METADATA in content:
        try:
            facts = json.loads(content[METADATA].get(METADATA_KEY, "null"))
        except json.JSONDecodeError:
            return None
        return facts if isinstance(facts, dict) else None
    if not isinstance(content.get("settings"), dict) or "model" not in content:
        return None
    known = {name: content[name] for name in _FACTS if name in content}
    return {"kind": "pretrain", **known}


def _model_settings(facts: Mapping[str, Any]) -> ModelSettings:
    """The recorded settings of the network, without unknown keys from other versions."""
    recorded = facts["settings"]["model"]
    known = {key: value for key, value in recorded.items() if key in ModelSettings.model_fields}
    return ModelSettings.model_validate(known)


def _normalisation(settings: Mapping[str, Any]) -> tuple[Colour, Deviations]:
    """Mean and deviation of the images, from the fine-tuning or else the pretraining."""
    recorded = {**settings.get("augment", {}), **settings.get("model", {})}
    mean, std = recorded.get("mean") or IMAGENET_MEAN, recorded.get("std") or IMAGENET_STD
    known = AugmentSettings.model_validate({"mean": mean, "std": std})
    return known.mean, known.std


def _segmenter_state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's tensors in a checkpoint or export; for pretraining, the query encoder's."""
    held = content if METADATA in content else content["model"]
    state = {name: value for name, value in held.items() if isinstance(value, Tensor)}
    query = {
        name.removeprefix(_QUERY_ENCODER): tensor
        for name, tensor in state.items()
        if name.startswith(_QUERY_ENCODER)
    }
    return query or state
