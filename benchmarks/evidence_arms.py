"""The arms of evidence.py and the settings of every stage, as KEY=VALUE for cp2fast's commands."""

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
"""What tells the pretrained arms apart; no-paste is MoCo v2 on the same network."""
EXTRA_ARMS: dict[str, list[str]] = {"dense-5": ["model.dense_weight=5"]}
"""With --extra: CP2 with more weight on the dense loss than its recipe gives it."""
RECIPE_ARMS = ("cp2", "no-paste")
"""The recipe is chosen by their mean, so that it favours neither."""
_SMALL = Path(__file__).parents[1] / "configs" / "small.yaml"


def _base() -> dict[str, Any]:
    sections = yaml.safe_load(_SMALL.read_text("utf-8"))
    flat = {
        f"{name}.{key}": value for name, keys in sections.items() for key, value in keys.items()
    }
    return {key: value for key, value in flat.items() if key != "train.epochs"}


BASE = _base()
"""The recipe ``small`` without its epochs: the steps follow from the budget."""
CHANGES: list[dict[str, Any]] = [
    {"model.queue": 8192},
    {"model.momentum": 0.996},
    {"augment.crop_area": "[0.08,1.0]"},
    {"train.steps": 0.5},
    {"train.lr": 0.002},
    {"model.queue": 512},
    {"data.batch_size": 128},
    {"train.lr": 0.0005},
    {"model.temperature": 0.1},
    {"model.size": 128},
    {"model.backbone": "resnet50"},
]
"""Tried one at a time, at the same number of steps; ``train.steps`` is a share of them."""
NOT_CHOSEN = ("model.backbone", "train.steps")
"""Tried only to be shown: the budget is planned for one network and one number of steps."""
CP2_CHANGES: list[dict[str, Any]] = [
    {"model.dense_weight": 5.0},
    {"model.dense_weight": 0.0},
    {"augment.paste_area": "[0.3,0.6]"},
]
"""Tried only to be shown, with CP2 alone: no arm is tuned more than another."""
GAIN = 0.005
"""mIoU that a change must gain to be chosen; of several of one key the best is taken."""

FINETUNE: dict[str, Any] = {
    "model.head": "aspp",
    "model.size": 224,
    "data.short_side": 240,
    "data.scale_low": 0.75,
    "data.scale_high": 1.5,
    "data.batch_size": 16,
    "train.optimizer": "adamw",
    "train.lr": 0.001,
    "train.lr_end": 0,
    "train.weight_decay": 0.01,
    "train.log_every": 25,
    "train.evaluate_every": 1_000_000,
    "train.compile": "off",
}
FINETUNE_CHANGES: list[dict[str, Any]] = [{"train.lr": 0.0005}, {"train.lr": 0.002}]
FINETUNE_ARMS = ("random", "cp2")
"""The starts that the settings of fine-tuning are tried from."""

PROBE_SIDE = 240
PLACES = ("backbone", "head")


def pretrain_words(
    a: argparse.Namespace, recipe: dict[str, Any], set_: str, arm: str, seed: int
) -> tuple[str, ...]:
    own = [f"model.init={a.imagenet}"] if arm == "imagenet-cp2" else (ARMS | EXTRA_ARMS)[arm]
    return (
        *(f"{key}={value}" for key, value in recipe.items()),
        *own,
        f"data.root={a.data / f'{set_}-unlabelled'}",
        "data.workers=1",
        f"train.seed={seed}",
        "train.log_every=25",
        "train.compile=off",
        "train.checkpoint_minutes=30",
        "train.keep_last=1",
        *a.set,
    )


def finetune_words(
    a: argparse.Namespace, recipe: dict[str, Any], set_: str, split: str, seed: int
) -> tuple[str, ...]:
    network = ("model.backbone", "model.head_channels")
    return (
        *(f"{key}={value}" for key, value in FINETUNE.items()),
        *(f"{key}={recipe[key]}" for key in network),
        f"data.root={a.data / set_}",
        f"data.train_split={split}",
        "data.workers=1",
        f"train.steps={a.finetune_steps}",
        f"train.seed={seed}",
        *a.set_finetune,
    )


def probe_data(
    a: argparse.Namespace,
    set_: str,
    *,
    labels: float = FEW,
    seeds: tuple[int, ...] = (0, 1, 2),
    splits: tuple[str, str] = ("train", "val"),
    places: tuple[str, ...] = PLACES,
) -> tuple[tuple[str, Any], ...]:
    """What is probed: the share of the labels, the seeds that draw them, and the layers."""
    return (
        ("root", str(a.data / set_)),
        ("train", splits[0]),
        ("val", splits[1]),
        ("labels", labels),
        ("seeds", seeds),
        ("places", places[:1] if a.tiny else places),
        ("short_side", 32 if a.tiny else PROBE_SIDE),
    )


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
