"""Networks as a training leaves them: no weight, and no statistic of a norm, as it began."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cp2fast.config import ModelSettings
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.run_folder import checkpoint_name
from cp2fast.train.checkpoint import write_checkpoint
from cp2fast.weights.trained import Trained, open_trained

CLASSES = ["ground", "ball", "box"]
SETTINGS: dict[str, Any] = {
    "backbone": "resnet18",
    "head": "fcn",
    "head_channels": 8,
    "embedding": 4,
    "size": 64,
    "queue": 8,
}


def trained_state(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.add_(noise.abs())
            else:
                tensor.add_(0.02 * noise)
    return state


def save_pretraining(run: Path, root: str = "photos", **settings: Any) -> Path:
    """A run as ``cp2fast pretrain`` leaves it; no value of its key encoder is the query's."""
    model = ModelSettings(**SETTINGS | settings)
    query = trained_state(build_segmenter(model))
    other = {name: torch.tensor(7.0).expand(tensor.shape) for name, tensor in query.items()}
    both = {"encoder_q.": query, "encoder_k.": other}
    state = {
        "model": {"queue": torch.zeros(4, 8), "queue_ptr": torch.zeros(1)}
        | {prefix + name: t for prefix, state in both.items() for name, t in state.items()},
        "step": 7,
        "images": 20,
        "settings": {"data": {"root": root, "batch_size": 4}, "model": model.model_dump()},
        "versions": {"cp2fast": "0.1.0", "torch": "2.15"},
    }
    return save_in(run, state)


def save_finetuning(run: Path, **settings: Any) -> Path:
    model = ModelSettings(**SETTINGS | settings)
    state = {
        "kind": "finetune",
        "model": trained_state(build_segmenter(model, num_classes=len(CLASSES))),
        "classes": CLASSES,
        "step": 9,
        "images": 20,
        "settings": {"data": {"root": "VOC2012"}, "model": model.model_dump()},
    }
    save_in(run, state)
    rows = [{"step": 3, "loss": 2.0, "lr": 0.1}, {"step": 9, "loss": 1.5, "lr": 0.1}]
    rows += [{"step": 9, "miou": 0.25, "pixel_accuracy": 0.5}]  # an evaluation
    rows += [{"step": 12, "miou": 0.75, "pixel_accuracy": 0.9}]  # of later weights
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def save_in(run: Path, state: dict[str, Any]) -> Path:
    (run / "checkpoints").mkdir(parents=True)
    write_checkpoint(run / "checkpoints" / checkpoint_name(state["step"]), state)
    return run


def pretrained(folder: Path, **settings: Any) -> Trained:
    return open_trained(save_pretraining(folder / "run", **settings))


def finetuned(folder: Path, **settings: Any) -> Trained:
    return open_trained(save_finetuning(folder / "run", **settings))


def around(network: Segmenter, **settings: Any) -> Trained:
    """As if ``network`` had been read from a run."""
    model = ModelSettings(**SETTINGS | settings)
    facts = {"kind": "pretrain", "settings": {"model": model.model_dump()}}
    return Trained(network.eval(), model, facts, Path("run/checkpoints/step_000000001.pt"))
