"""Where a training step's time goes on a GPU: its kernels, and the time that the GPU is idle.

Without a GPU it shows the operators on the CPU, so that the script can be rehearsed.

    python -m benchmarks.profile_step OUT.json [KEY=VALUE ...]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.common import write_result
from cp2fast import recipes
from cp2fast.bench.run_parts import idle_of
from cp2fast.bench.timing import finish
from cp2fast.bench.train import compiled_learner
from cp2fast.config import PretrainSettings

STEPS, WARM, SHOWN = 5, 5, 20


def main() -> None:
    settings = recipes.load(PretrainSettings, "r50", sys.argv[2:])
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    learner, batch = compiled_learner(settings, device, print)
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
    spans = [(event.time_range.start, event.time_range.end) for event in kernels]
    idle = idle_of(spans)
    total = max(end for _, end in spans) - min(start for start, _ in spans)
    by_name: dict[str, float] = defaultdict(float)
    for event in kernels:
        by_name[event.name] += event.time_range.elapsed_us()
    top = sorted(by_name.items(), key=lambda item: -item[1])[:SHOWN]
    result = {
        "milliseconds_per_step": total / STEPS / 1e3,
        "idle": idle,
        "kernels": [
            {"name": name, "share": time / total, "milliseconds_per_step": time / STEPS / 1e3}
            for name, time in top
        ],
        "bottleneck": f"the GPU is idle {idle:.0%} of a step; the largest kernel, "
        f"{top[0][0][:60]}, takes {top[0][1] / total:.0%}",
    }
    write_result(Path(sys.argv[1]), result)
    print(result["bottleneck"])


if __name__ == "__main__":
    main()
