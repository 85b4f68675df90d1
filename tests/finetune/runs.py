"""Fine-tunings of seconds by the command line, and what they have logged."""

import json
from pathlib import Path
from typing import Any

import torch

from tests.command_line import Done, cp2fast

TINY = [
    "data.batch_size=3",
    "data.workers=1",
    "data.short_side=40",
    "model.size=32",
    "train.device=cpu",
    "train.log_every=1",
    "train.steps=9",
    "train.evaluate_every=4",
]


NETWORK = ["model.backbone=test_resnet", "model.head_channels=8"]


def finetune(out: Path, root: Path, *words: object) -> Done:
    return cp2fast("finetune-voc", *TINY, f"data.root={root}", *words, "--out", out)


def apart(out: Path, root: Path, *words: str) -> list[str]:
    """The words for a process of its own."""
    return ["finetune-voc", *TINY, *NETWORK, f"data.root={root}", *words, "--out", str(out)]


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if name in row]


def weights(out: Path) -> dict[str, torch.Tensor]:
    newest = max((out / "checkpoints").glob("*.pt"))
    return torch.load(newest, weights_only=True)["model"]
