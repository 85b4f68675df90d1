"""Does the pretraining help? mIoU on CamVid from four starts, under one budget.

python benchmarks/camvid.py camvid-voc [--photos photos] [--out runs/camvid] [--result FILE]

The arms share the network, the unlabelled pixels (CamVid's training images and the optional
photos), the steps and the seeds of pretraining, and the whole fine-tuning:

    random       no pretraining
    cp2          copy-paste, instance and dense loss
    no-dense     copy-paste, instance loss alone
    no-paste     instance loss on uncomposed crops: MoCo v2 on the same network

Each seed pretrains anew and fine-tunes from that. What is finished is not repeated, so the same
command continues a stopped one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import cp2fast
from cp2fast import recipes
from cp2fast.finetune.compare import COMPARISON, run_compare
from cp2fast.machine import machine, versions
from cp2fast.run_folder import RunFolder, write_json

ARMS: dict[str, dict[str, object] | None] = {
    "random": None,
    "cp2": {},
    "no-dense": {"model.dense_weight": 0},
    "no-paste": {"model.dense_weight": 0, "data.background": "none"},
}
NETWORK: dict[str, object] = {
    "model.backbone": "resnet18",
    "model.head": "aspp",
    "model.head_channels": 128,
    "model.size": 96,
    "data.workers": 1,
    "train.optimizer": "adamw",
    "train.lr": 0.0005,
    "train.weight_decay": 0.01,
}
PRETRAIN: dict[str, object] = {
    **NETWORK,
    "model.queue": 1024,
    "model.queue_start": "keys",
    "model.momentum": 0.99,
    "data.batch_size": 16,
}
FINETUNE: dict[str, object] = {
    **NETWORK,
    "data.short_side": 144,
    "data.scale_low": 0.75,
    "data.scale_high": 1.5,
    "data.batch_size": 8,
    "train.lr_end": 0,
}

# Chosen for about 30 minutes of 2 quiet cores, from the CPU time that steps were seen to take.
PRETRAIN_STEPS, FINETUNE_STEPS = 120, 150


def main() -> None:
    arguments = parse()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    unlabelled = link_unlabelled(out / "unlabelled", arguments.camvid, arguments.photos)
    began = time.perf_counter()
    miou: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in arguments.seeds:
        starts = {arm: start(arm, seed, unlabelled, arguments) for arm in ARMS}
        folder = out / f"finetune-seed{seed}"
        run_compare(finetuning(arguments), folder, list(starts.values()), [seed])
        found = json.loads((folder / COMPARISON).read_text())["starts"]
        for arm, name in starts.items():
            miou[arm].append(found[name]["mean"])
    results = [summary(arm, miou) for arm in ARMS]
    report = {
        "machine": machine(),
        "versions": versions(),
        "images": {"unlabelled": len(list(unlabelled.iterdir()))},
        "settings": {
            "pretrain": PRETRAIN | {"train.steps": arguments.pretrain_steps},
            "finetune": FINETUNE | {"train.steps": arguments.finetune_steps},
            "arms": ARMS,
            "seeds": arguments.seeds,
        },
        "minutes_of_this_call": (time.perf_counter() - began) / 60,
        "results": results,
    }
    write_json(arguments.result or out / "camvid.json", report)
    for row in results:
        deviation = "one seed" if row["deviation"] is None else f"+- {row['deviation']:.2%}"
        print(f"{row['arm']:10} {row['mean']:.2%} {deviation}", end="  ")
        print(f"over random, by seed: {', '.join(f'{g:+.2%}' for g in row['over_random'])}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("camvid", type=Path, help="CamVid in VOC layout")
    parser.add_argument("--photos", type=Path, help="more unlabelled images, for pretraining")
    parser.add_argument("--out", type=Path, default=Path("runs/camvid"))
    parser.add_argument("--result", type=Path, help="default OUT/camvid.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain-steps", type=int, default=PRETRAIN_STEPS)
    parser.add_argument("--finetune-steps", type=int, default=FINETUNE_STEPS)
    return parser.parse_args()


def link_unlabelled(folder: Path, camvid: Path, photos: Path | None) -> Path:
    """The training images of CamVid (never those of val) and the photos, as links."""
    folder.mkdir(exist_ok=True)
    names = (camvid / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    sources = [camvid / "JPEGImages" / f"{name}.jpg" for name in names]
    sources += sorted(photos.rglob("*.[jJ][pP]*[gG]")) if photos else []
    for number, source in enumerate(sources):
        link = folder / f"{number:06}.jpg"
        if not link.exists():
            link.symlink_to(source.resolve())
    return folder


def start(arm: str, seed: int, unlabelled: Path, arguments: argparse.Namespace) -> str:
    """What the arm's fine-tuning starts from, pretrained where it is not there yet."""
    own = ARMS[arm]
    if own is None:
        return "random"
    folder = arguments.out / f"pretrain-{arm}-seed{seed}"
    steps = {"train.steps": arguments.pretrain_steps, "train.seed": seed}
    overrides = {**PRETRAIN, **own, **steps, "data.root": unlabelled}
    settings = recipes.load(cp2fast.Settings, None, overrides)
    cp2fast.pretrain(settings, out=folder, resume=RunFolder(folder).holds_run)
    return str(folder)


def finetuning(arguments: argparse.Namespace) -> cp2fast.FinetuneSettings:
    steps, root = arguments.finetune_steps, arguments.camvid
    overrides = FINETUNE | {"train.steps": steps, "data.root": root}
    return recipes.load(cp2fast.FinetuneSettings, None, overrides)


def summary(arm: str, miou: dict[str, list[float]]) -> dict[str, Any]:
    values = miou[arm]
    return {
        "arm": arm,
        "miou": values,
        "mean": fmean(values),
        "deviation": stdev(values) if len(values) > 1 else None,
        "over_random": [value - base for value, base in zip(values, miou["random"], strict=True)],
    }


if __name__ == "__main__":
    main()
