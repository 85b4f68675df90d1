"""LightlyTrain's own training steps and cp2fast's, on pairs that are already on the device.

    python -m benchmarks.peer_step OUT.json [KEY=VALUE ...]      # pip install lightly-train

Both train a ResNet-50 with the same image size and batch in bfloat16 (float32 on a CPU).
LightlyTrain does less: DenseCL and DINO train only the backbone, at stride 32; cp2fast trains the
whole segmentation network, at stride 16. So images per second show how long a user waits, and
TFLOP/s of the counted work how close each comes to the limit of the card.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import write_result
from cp2fast import recipes
from cp2fast.bench.timing import finish
from cp2fast.bench.train import compiled_learner, flops_per_sample
from cp2fast.config import PretrainSettings

PHOTOS = 100_000
"""Size of the data set for LightlyTrain, which sizes DenseCL's queue by it."""
WARM = 5


def main() -> None:
    out, settings = Path(sys.argv[1]), recipes.load(PretrainSettings, "r50", sys.argv[2:])
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    steps = 20 if gpu else 2
    systems: dict[str, Callable[[], dict[str, Any]]] = {
        "cp2fast": lambda: cp2fast_steps(settings, device, steps),
        "lightly-train-densecl": lambda: lightly_steps("densecl", settings, device, steps),
        "lightly-train-dino": lambda: lightly_steps("dino", settings, device, steps),
    }
    result: dict[str, Any] = {
        "settings": {"batch_size": settings.data.batch_size, "size": settings.model.size},
        "results": [],
        "missing": {},
    }
    for name, run in systems.items():
        gc.collect()  # the network before it, which may be in a cycle
        if gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            figures = run()
        except Exception as error:  # the others are still measured
            result["missing"][name] = f"{type(error).__name__}: {error}"
            continue
        result["results"].append({"system": name, **figures})
        write_result(out, result)
        rate = f"{figures['images_per_second']:.1f} images/s"
        print(f"{name}: {rate}, {figures['tflop_per_second']:.3g} TFLOP/s", flush=True)
    for name, why in result["missing"].items():
        print(f"{name} was not measured: {why}")
    write_result(out, result)


def cp2fast_steps(settings: PretrainSettings, device: torch.device, steps: int) -> dict[str, Any]:
    """CP2's step as in a run, compiled."""
    learner, batch = compiled_learner(settings, device, print)
    times = [0.0]
    for _ in range(WARM + steps):
        learner.step(iter([batch]))
        finish(device)
        times.append(time.perf_counter())
    flops = flops_per_sample(settings, plain=False, device_type=device.type)
    return figures_of(times, settings.data.batch_size, flops, device)


def lightly_steps(
    method: str, settings: PretrainSettings, device: torch.device, steps: int
) -> dict[str, Any]:
    """Steps of LightlyTrain's method in Lightning's trainer, as its users run it."""
    from lightly_train._commands import train_helpers
    from lightly_train._methods.method_helpers import get_method_cls
    from lightly_train._models.package_helpers import get_wrapped_model
    from lightly_train._scaling import ScalingInfo
    from pytorch_lightning import Callback, Trainer

    for name in ("lightly_train", "pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    method_class = get_method_cls(method)
    wrapped = get_wrapped_model("torchvision/resnet50", num_input_channels=3, load_weights=False)
    optimizer = train_helpers.get_optimizer_args("auto", None, method_class, wrapped)
    scaling = ScalingInfo(dataset_size=PHOTOS, epochs=100)
    task = method_class(
        method_args=train_helpers.get_method_args(method_class, None, scaling, optimizer, wrapped),
        optimizer_args=optimizer,
        embedding_model=train_helpers.get_embedding_model(wrapped),
        global_batch_size=settings.data.batch_size,
        num_input_channels=3,
    )
    views = views_of(method, settings.data.batch_size, settings.model.size, device)
    times, flops = [0.0], [0.0]
    counting, counter = ExitStack(), FlopCounterMode(display=False)

    class Clock(Callback):  # type: ignore[misc, unused-ignore]  # untyped where it is missing
        """Times each step, and counts the operations of the first."""

        def on_train_batch_start(self, *_: object) -> None:
            if len(times) == 1:
                counting.enter_context(counter)

        def on_train_batch_end(self, *_: object) -> None:
            if len(times) == 1:
                counting.close()
                flops[0] = counter.get_total_flops() / settings.data.batch_size
            finish(device)
            times.append(time.perf_counter())

    trainer = Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if device.type == "cuda" else "32-true",
        max_epochs=1,
        limit_train_batches=WARM + steps,
        callbacks=[Clock()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    names = ["photo"] * settings.data.batch_size
    trainer.fit(task, DataLoader(Ready({"views": views, "filename": names}), batch_size=None))
    return figures_of(times, settings.data.batch_size, flops[0], device)


def views_of(method: str, batch: int, size: int, device: torch.device) -> list[Tensor]:
    """A batch as the method's transform makes it: two large views, for DINO six small ones too."""
    sides = [size, size, *([96] * 6 if method == "dino" else [])]
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 3, side, side, generator=generator).to(device) for side in sides]


class Ready(IterableDataset[dict[str, Any]]):
    """The same batch again and again."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield self.batch


def figures_of(
    times: list[float], batch: int, flops: float, device: torch.device
) -> dict[str, Any]:
    """Rates of the steps after the warm-up.

    Args:
        times: a placeholder, then the time at the end of each step.
        batch: images per step.
        flops: floating-point operations per image; a multiply-add counts as two.
        device: device whose peak memory is added.
    """
    ends = times[1:]
    seconds = [b - a for a, b in zip(ends[WARM - 1 :], ends[WARM:], strict=False)]
    rate = batch / median(seconds)
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {
        "images_per_second": rate,
        "spread": (max(seconds) - min(seconds)) / median(seconds),
        "gflop_per_image": flops / 1e9,
        "tflop_per_second": rate * flops / 1e12,
        "peak_memory_gib": memory,
    }


if __name__ == "__main__":
    main()
