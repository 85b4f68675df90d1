"""Is a training step faster with pointwise products, CUDA graphs or autotuning?

    python -m benchmarks.step_variants OUT.json VARIANT [KEY=VALUE ...]

VARIANT is ``plain`` or names joined by commas: ``pointwise`` has 1x1 convolutions as products of
matrices over channels-last maps, ``graphs`` compiles with CUDA graphs, ``tune`` with max-autotune.
Compiling takes one to two minutes on 16 cores, so the processes of several variants may start
together; with ``STEP_TURN=FILE`` they are timed one at a time, under a lock on that file.
"""

from __future__ import annotations

import fcntl
import functools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import write_result
from cp2fast import recipes
from cp2fast.bench.timing import finish
from cp2fast.bench.train import compiled_learner
from cp2fast.config import PretrainSettings

NAMES = {"plain", "pointwise", "graphs", "tune"}
MODES = {"graphs": "reduce-overhead", "tune": "max-autotune-no-cudagraphs"}
WARM, STEPS, ROUNDS = 4, 10, 3


def main() -> None:
    out, names = Path(sys.argv[1]), set(sys.argv[2].split(","))
    if unknown := names - NAMES:
        sys.exit(f"error: no variant is called {min(unknown)}: name any of {sorted(NAMES)}")
    if "pointwise" in names:
        nn.Conv2d._conv_forward = pointwise  # type: ignore[method-assign]
    for name in names & set(MODES):
        torch.compile = functools.partial(torch.compile, mode=MODES[name])
    settings = recipes.load(PretrainSettings, None, sys.argv[3:])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    began = time.perf_counter()
    learner, batch = compiled_learner(settings, device, print)
    compiling = time.perf_counter() - began

    def steps(count: int) -> list[Tensor]:
        losses = []
        for _ in range(count):
            if "graphs" in names:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            losses += [output.loss.detach().clone() for output in learner.step(iter([batch]))]
        finish(device)
        return losses

    losses = [loss.item() for loss in steps(WARM)]
    rates = []
    for _ in range(ROUNDS):
        with turn():
            steps(2)
            began = time.perf_counter()
            steps(STEPS)
            seconds = time.perf_counter() - began
        rates.append(STEPS * settings.data.batch_size / seconds)
    result = {
        "variant": sys.argv[2],
        "settings": sys.argv[3:],
        "compiling_seconds": compiling,
        "first_losses": losses,
        "samples_per_second": median(rates),
        "spread": (max(rates) - min(rates)) / median(rates),
    }
    write_result(out, result)
    print(f"{sys.argv[2]}: {median(rates):.1f} samples/s")


def pointwise(self: nn.Conv2d, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002  # torch's name
    """``Conv2d._conv_forward``; a 1x1 convolution with stride 1 is one matrix product."""
    if self.kernel_size == self.stride == (1, 1) and self.groups == 1:
        return F.linear(input.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


@contextmanager
def turn() -> Iterator[None]:
    """Exclude other processes with the same ``STEP_TURN``."""
    with open(os.environ.get("STEP_TURN", os.devnull), "w", encoding="utf-8") as lock:
        if "STEP_TURN" in os.environ:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
