"""Both tasks as runs of seconds: what the engine does for one, it does for the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cp2fast.run_folder import list_checkpoints
from tests.command_line import Done, cp2fast
from tests.pretrain import runs

FINETUNE = [
    "finetune-voc",
    "model.backbone=test_resnet",
    "model.head_channels=8",
    "model.size=32",
    "data.batch_size=2",
    "data.workers=1",
    "data.short_side=40",
    "train.device=cpu",
    "train.log_every=1",
    "train.lr_end=0",
]
ONE_PROCESS = ["data.source=torch", "data.workers=0"]
EACH_STEP = ["train.checkpoint_minutes=1e-9", "train.steps=12"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@dataclass(frozen=True)
class Kind:
    """A command, and what it trains on."""

    name: str
    data: Path

    def words(self, out: Path, *more: str) -> list[str]:
        """Of a run that saves whenever it can, with ``more`` settings and options."""
        options = [word for word in more if word.startswith("--")]
        settings = [*EACH_STEP, *(word for word in more if not word.startswith("--"))]
        if self.name == "pretrain":
            return runs.words(out, self.data, *ONE_PROCESS, *settings, *options)
        data = f"data.root={self.data}"
        return [*FINETUNE, data, *settings, "--out", str(out), *options]

    def run(self, out: Path, *more: str) -> Done:
        return cp2fast(*self.words(out, *more))

    def command(self, out: Path, *more: str, launcher: Sequence[str] = ()) -> list[str]:
        return [sys.executable, *launcher, "-m", "cp2fast", *self.words(out, *more)]


def losses(out: Path) -> list[tuple[int, float]]:
    """Steps and losses that were logged."""
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def newest(out: Path) -> Path:
    return list_checkpoints(out / "checkpoints")[-1]
