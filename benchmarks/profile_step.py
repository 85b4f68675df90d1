"""Where a training step's time goes on a GPU: its kernels, and the time that the GPU is idle.

Without a GPU it shows the operators on the CPU instead, so that the script can be rehearsed.

python benchmarks/profile_step.py OUT.json [KEY=VALUE ...]
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from cp2fast import recipes
from cp2fast.bench.timing import finish
from cp2fast.bench.train import random_pairs
from cp2fast.config import PretrainSettings
from cp2fast.machine import machine, versions
from cp2fast.pretrain.learner import build_learner
from cp2fast.train.compile import compile_encoders

STEPS, WARM, SHOWN = 5, 5, 20


def main() -> None:
    settings = recipes.load(PretrainSettings, "r50", sys.argv[2:])
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    learner = build_learner(settings, device)
    batch = random_pairs(settings.data.batch_size, settings.model.size, device, learner.dtype)
    compile_encoders(learner.network, settings.train.compile, batch.query, learner.dtype, print)
    for _ in range(WARM):
        learner.step(iter([batch]))
    finish(device)
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as profiler:
        for _ in range(STEPS):
            learner.step(iter([batch]))
        finish(device)
    # Annotations, as of the optimiser's step, span kernels and the gaps between them.
    types = torch.autograd.DeviceType  # type: ignore[attr-defined]  # documented, not exported
    shown = types.CUDA if gpu else types.CPU
    kernels = [
        event
        for event in profiler.events()
        if event.device_type == shown and not event.is_user_annotation
    ]
    spans = sorted((e.time_range.start, e.time_range.end) for e in kernels)
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    total = end - spans[0][0]
    by_name: dict[str, float] = defaultdict(float)
    for event in kernels:
        by_name[event.name] += event.time_range.elapsed_us()
    top = sorted(by_name.items(), key=lambda item: -item[1])[:SHOWN]
    result = {
        "machine": machine(),
        "versions": versions(),
        "milliseconds_per_step": total / STEPS / 1e3,
        "idle": 1 - busy / total,
        "kernels": [
            {"name": name, "share": time / total, "milliseconds_per_step": time / STEPS / 1e3}
            for name, time in top
        ],
        "bottleneck": f"the GPU is idle {1 - busy / total:.0%} of a step; the largest kernel, "
        f"{top[0][0][:60]}, takes {top[0][1] / total:.0%}",
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(result["bottleneck"])


if __name__ == "__main__":
    main()
