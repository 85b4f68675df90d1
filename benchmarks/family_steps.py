"""Steps of five families of backbones: throughput, memory, and what cp2fast adds to timm.

``--steps`` measures the training step of each family and its memory as ``bench train`` does,
without the original: about a minute and a half per family on two CPU cores. ``--networks`` measures
cp2fast's network, forward and backward, in turn with timm's own model under the same head.

    python -m benchmarks.family_steps --steps --rounds 2 --seconds 5 --json OUT.json
    python -m benchmarks.family_steps --networks --only swin_tiny_patch4_window7_224
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from benchmarks.common import write_result
from cp2fast.bench.timing import Stream, finish, measure
from cp2fast.bench.train import bench_train
from cp2fast.config import DataSettings, ModelSettings, PretrainSettings
from cp2fast.model.families import OUTPUT_STRIDE, family_of
from cp2fast.model.segmenter import build_segmenter

FAMILIES = (
    "resnet50",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
    "vit_small_patch16_224",
    "vit_small_patch14_dinov2",
)
SIZE = 224


class Timm(nn.Module):
    """timm's own model for images of one size, with one of our heads on its last map."""

    def __init__(self, name: str, head: nn.Module) -> None:
        super().__init__()
        family = family_of(name)
        options: dict[str, Any] = {"output_stride": OUTPUT_STRIDE} if family.is_dilated else {}
        if family.is_sized:
            options["img_size"] = SIZE
        if "swin" in name:  # no stochastic depth, as ours
            options["drop_path_rate"] = 0.0
        self.backbone = timm.create_model(name, num_classes=0, global_pool="", **options)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """The dense embedding."""
        features = self.backbone.forward_features(images)
        if features.ndim == 3:
            side = SIZE // self.backbone.patch_embed.patch_size[0]
            tokens = features[:, self.backbone.num_prefix_tokens :]
            features = tokens.transpose(1, 2).unflatten(2, (side, side))
        elif "Swin" in type(self.backbone).__name__:
            features = features.permute(0, 3, 1, 2)
        return self.head.contrast_conv(self.head(features))  # type: ignore[operator, no-any-return]


def compare_networks(
    name: str, batch: int, device: torch.device, rounds: int, seconds: float
) -> dict[str, float]:
    """Samples per second of both networks, and ours as a share of timm's."""
    ours = build_segmenter(ModelSettings(backbone=name, size=SIZE))
    theirs = Timm(name, build_segmenter(ModelSettings(backbone=name, size=SIZE)).decode_head)
    channels_last = torch.channels_last
    images = torch.randn(batch, 3, SIZE, SIZE, device=device).to(memory_format=channels_last)

    def work(network: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[int]:
        network.to(device, memory_format=channels_last)  # type: ignore[call-overload]
        while True:
            forward(images).square().mean().backward()  # type: ignore[no-untyped-call]
            network.zero_grad(set_to_none=True)
            finish(device)
            yield batch

    streams = {
        "cp2fast": Stream(work(ours, ours.embed)),
        "timm": Stream(work(theirs, theirs)),
    }
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    rates = measure(streams, rounds, seconds, clock=clock)
    found = {system: rate.median for system, rate in rates.items()}
    return found | {"share_of_timm": found["cp2fast"] / found["timm"]}


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--only", help="backbones, with commas between them")
    parser.add_argument("--steps", action="store_true", help="only the training steps")
    parser.add_argument("--networks", action="store_true", help="only the networks, with timm's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = 256 if device.type == "cuda" else 8
    rows = []
    for name in options.only.split(",") if options.only else FAMILIES:
        row: dict[str, Any] = {"backbone": name, "batch_size": batch}
        if not options.steps:
            row["network"] = compare_networks(name, batch, device, options.rounds, options.seconds)
        if not options.networks:
            settings = PretrainSettings(
                data=DataSettings(batch_size=batch), model=ModelSettings(backbone=name, size=SIZE)
            )
            report = bench_train(
                settings, device, options.rounds, options.seconds, beside_original=False
            )
            row["step"] = report.to_json()
        rows.append(row)
        step = row.get("step", {})
        shown = {
            "step": step.get("results"),
            "memory": step.get("extra", {}).get("peak_memory_gib"),
        }
        print(json.dumps(row | shown), flush=True)
        if options.json:
            write_result(options.json, {"device": str(device), "families": rows})


if __name__ == "__main__":
    main()
