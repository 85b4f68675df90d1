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
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cp2fast.bench.machine import machine, versions

ARMS = {
    "random": None,
    "cp2": [],
    "no-dense": ["model.dense_weight=0"],
    "no-paste": ["model.dense_weight=0", "data.background=none"],
}
NETWORK = ["model.backbone=resnet18", "model.head=aspp", "model.head_channels=128"]
PRETRAIN = [
    *NETWORK,
    "model.size=96",
    "model.queue=1024",
    "model.queue_start=keys",
    "model.momentum=0.99",
    "data.batch_size=16",
    "data.workers=1",
    "train.optimizer=adamw",
    "train.lr=0.0005",
    "train.weight_decay=0.01",
]
FINETUNE = [
    *NETWORK,
    "model.size=96",
    "data.short_side=144",
    "data.scale_low=0.75",
    "data.scale_high=1.5",
    "data.batch_size=8",
    "data.workers=1",
    "train.optimizer=adamw",
    "train.lr=0.0005",
    "train.lr_end=0",
    "train.weight_decay=0.01",
]

# Chosen for about 30 minutes of 2 quiet cores, from the CPU time that steps were seen to take.
PRETRAIN_STEPS, FINETUNE_STEPS = 120, 150


def main() -> None:
    arguments = parse()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    unlabelled = link_unlabelled(out / "unlabelled", arguments.camvid, arguments.photos)
    began = time.perf_counter()
    miou: dict[str, dict[int, float]] = {arm: {} for arm in ARMS}
    for seed in arguments.seeds:
        for arm in ARMS:
            miou[arm][seed] = run_arm(arm, seed, unlabelled, arguments)
            print(f"{arm}, seed {seed}: mIoU {miou[arm][seed]:.2%}", flush=True)
    results = [summary(arm, miou) for arm in ARMS]
    report = {
        "machine": machine(),
        "versions": versions(),
        "images": {"unlabelled": len(list(unlabelled.iterdir()))},
        "settings": {
            "pretrain": [*PRETRAIN, f"train.steps={arguments.pretrain_steps}"],
            "finetune": [*FINETUNE, f"train.steps={arguments.finetune_steps}"],
            "arms": ARMS,
            "seeds": arguments.seeds,
        },
        "minutes_of_this_call": (time.perf_counter() - began) / 60,
        "results": results,
    }
    (arguments.result or out / "camvid.json").write_text(json.dumps(report, indent=2) + "\n")
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


def run_arm(arm: str, seed: int, unlabelled: Path, arguments: argparse.Namespace) -> float:
    """Pretrain where the arm does, fine-tune, and give the mIoU."""
    init = "random"
    own = ARMS[arm]
    if own is not None:
        init = str(arguments.out / f"pretrain-{arm}-seed{seed}")
        steps = f"train.steps={arguments.pretrain_steps}"
        cp2fast("pretrain", Path(init), [*PRETRAIN, *own, steps, f"data.root={unlabelled}"], seed)
    folder = arguments.out / f"finetune-{arm}-seed{seed}"
    steps = f"train.steps={arguments.finetune_steps}"
    if not (folder / "result.json").exists():
        words = [*FINETUNE, steps, f"model.init={init}", f"data.root={arguments.camvid}"]
        cp2fast("finetune-voc", folder, words, seed)
    return float(json.loads((folder / "result.json").read_text())["miou"])


def cp2fast(command: str, folder: Path, words: list[str], seed: int) -> None:
    """Run or go on with a command, its output beside its folder."""
    resume = ["--resume"] if (folder / "config.yaml").exists() else []
    words = [*words, f"train.seed={seed}", "--out", str(folder), *resume]
    with folder.with_suffix(".log").open("a") as log:
        subprocess.run(
            [sys.executable, "-m", "cp2fast", command, *words],
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )


def summary(arm: str, miou: dict[str, dict[int, float]]) -> dict[str, Any]:
    values = list(miou[arm].values())
    return {
        "arm": arm,
        "miou": values,
        "mean": fmean(values),
        "deviation": stdev(values) if len(values) > 1 else None,
        "over_random": [
            value - base for value, base in zip(values, miou["random"].values(), strict=True)
        ],
    }


if __name__ == "__main__":
    main()
