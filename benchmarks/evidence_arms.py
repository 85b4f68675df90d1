"""The arms of evidence.py: what they share, what tells them apart, and how the recipe is chosen."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import yaml
from evidence_data import FEW

ARMS: dict[str, list[str]] = {
    "cp2": [],
    "no-paste": ["model.dense_weight=0", "data.background=none"],
    "no-dense": ["model.dense_weight=0"],
}
EXTRA_ARMS: dict[str, list[str]] = {"dense-5": ["model.dense_weight=5"]}
"""Beside the arms above with --extra, to see whether a heavier dense loss would help."""
_SMALL = Path(__file__).parents[1] / "configs" / "small.yaml"


def _base() -> dict[str, Any]:
    sections = yaml.safe_load(_SMALL.read_text("utf-8"))
    flat = {
        f"{name}.{key}": value for name, keys in sections.items() for key, value in keys.items()
    }
    return {key: value for key, value in flat.items() if key != "train.epochs"}


BASE = _base()
"""The recipe ``small``, but for its epochs: the steps follow from the budget."""
CHANGES: list[dict[str, Any]] = [
    {"model.queue": 512},
    {"model.queue": 8192},
    {"model.momentum": 0.996},
    {"augment.crop_area": "[0.08,1.0]"},
    {"augment.paste_area": "[0.3,0.6]"},
    {"train.steps": 150},
    {"data.batch_size": 256},
    {"train.lr": 0.004},
    {"train.lr": 0.001},
    {"model.temperature": 0.1},
    {"model.size": 128},
    {"model.backbone": "resnet50"},
]
"""Tried one at a time for the recipe, at the same number of steps, what was never tried first."""
NOT_CHOSEN = ("model.backbone", "train.steps")
"""Tried to be shown: every arm has the network and the steps that the budget is planned for."""
ONLY_SHOWN: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"model.dense_weight": 1.0}, ("cp2",)),
    ({"model.dense_weight": 0.0}, ("cp2",)),
]
"""Of CP2 alone: never chosen, for no arm is tuned more than another."""
GAIN = 0.005
"""What a change must gain to be chosen; of those of one key the best is taken."""
RECIPE_ARMS = ("cp2", "no-paste")
FINETUNE = {
    "model.head": "aspp",
    "model.size": 224,
    "data.short_side": 240,
    "data.scale_low": 0.75,
    "data.scale_high": 1.5,
    "data.batch_size": 16,
    "train.optimizer": "adamw",
    "train.lr": 0.0005,
    "train.lr_end": 0,
    "train.weight_decay": 0.01,
    "train.log_every": 25,
    "train.evaluate_every": 1_000_000,
    "train.compile": "off",
}
FINETUNE_CHANGES: list[dict[str, Any]] = [{"train.lr": 0.0002}, {"train.lr": 0.001}]


def pretrained_arms(a: argparse.Namespace, set_: str) -> list[str]:
    """The first set has all of them, the others at least CP2 and MoCo v2."""
    if set_ != a.sets[0] and a.fewer_arms:
        return ["cp2", "no-paste"]
    return [*ARMS, *(EXTRA_ARMS if a.extra else ()), *(["imagenet-cp2"] if a.imagenet else ())]


def pretrain_words(
    a: argparse.Namespace, recipe: dict[str, Any], set_: str, arm: str, seed: int
) -> tuple[str, ...]:
    own = [f"model.init={a.imagenet}"] if arm == "imagenet-cp2" else (ARMS | EXTRA_ARMS)[arm]
    return (
        *(f"{key}={value}" for key, value in recipe.items()),
        *own,
        f"data.root={a.data / f'{set_}-unlabelled'}",
        f"data.workers={a.workers}",
        f"train.seed={seed}",
        "train.log_every=25",
        "train.compile=off",
        "train.checkpoint_minutes=30",
        "train.keep_last=1",
        *a.set,
    )


def finetune_words(
    a: argparse.Namespace, recipe: dict[str, Any], set_: str, labels: str, seed: int
) -> tuple[str, ...]:
    network = ("model.backbone", "model.head_channels")
    return (
        *(f"{key}={value}" for key, value in FINETUNE.items()),
        *(f"{key}={recipe[key]}" for key in network),
        f"data.root={a.data / set_}",
        f"data.train_split={'train' if labels == 'all' else f'few{seed}'}",
        f"data.workers={max(1, a.workers)}",
        f"train.steps={a.finetune_steps}",
        f"train.seed={seed}",
        *a.set_finetune,
    )


def probe_data(
    a: argparse.Namespace, set_: str, splits: tuple[str, str], labels: tuple[Any, ...]
) -> tuple[tuple[str, Any], ...]:
    train, val = splits
    return (
        ("root", str(a.data / set_)),
        ("train", train),
        ("val", val),
        ("labels", labels),
        ("places", tuple(a.places)),
        ("short_side", a.probe_side),
        ("workers", max(1, a.workers)),
    )


def recipe_probe_data(a: argparse.Namespace) -> tuple[tuple[str, Any], ...]:
    """Of the training images alone: no image of val has a say in the recipe."""
    data = dict(probe_data(a, a.sets[0], ("recipe_train", "recipe_val"), ((FEW, (0, 1, 2)),)))
    return tuple((data | {"places": ("backbone",)}).items())


def chosen(base: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The base with, of each key, the change that helped most, if by more than ``GAIN``."""
    linear = {row["change"]: row["linear"] for row in rows if len(row["arms"]) == len(RECIPE_ARMS)}
    if "base" not in linear:
        return base
    recipe, best = dict(base), dict[str, float]()
    for change in CHANGES:
        [(key, value)] = change.items()
        if key in NOT_CHOSEN:
            continue
        score = linear.get(change_name(change), -math.inf)
        if score > linear["base"] + GAIN and score > best.get(key, -math.inf):
            recipe[key], best[key] = value, score
    return recipe


def change_name(change: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in change.items()) or "base"
