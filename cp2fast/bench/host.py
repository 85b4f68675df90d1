"""The host's time per step, by part: draw, check, pack, launch, step, log.

On a GPU these are the times to launch the work, which runs asynchronously. On a CPU, ``launch`` and
``step`` include the work itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import repeat

from cp2fast.batch import CopyPasteBatch
from cp2fast.bench.timing import launch_milliseconds
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.validate import validate
from cp2fast.copypaste.views import pack
from cp2fast.data.order import plan
from cp2fast.data.sources.open import open_source
from cp2fast.model.cp2 import CP2Output
from cp2fast.pretrain.task import PretrainTask


def host_milliseconds(task: PretrainTask) -> dict[str, float]:
    """Median times in milliseconds, by part of a step; the task's run has not started."""
    settings, device, learner = task.settings, task.learner.device, task.learner
    data, augment, size = settings.data, settings.augment, settings.model.size
    independent = data.background == "independent"
    numbers = plan(
        seed=0, count=task.images, batch_size=data.batch_size, stop=1, independent=independent
    )
    decoded = open_source(task.source, data, task.image_set, numbers, 0, device, task.bad)
    batch = next(decoded).to(device)
    del decoded  # ends its threads or processes
    parameters = sample_parameters(0, 0, batch, size, data.background, augment)

    def launch() -> CopyPasteBatch:
        mean, std = augment.mean, augment.std
        return copy_paste(batch, parameters, size, learner.dtype, mean=mean, std=std)

    pairs = launch()

    def step() -> list[CP2Output]:
        return learner.step(repeat(pairs, learner.accumulate))

    outputs = step()
    of_the_op: dict[str, Callable[[], object]] = {
        "draw": lambda: sample_parameters(0, 1, batch, size, data.background, augment),
        "check": lambda: validate(
            batch, parameters, size, learner.dtype, augment.mean, augment.std
        ),
        "pack": lambda: pack(batch, parameters),
        "launch": launch,
    }
    found = {name: launch_milliseconds(work, 30, device) for name, work in of_the_op.items()}
    found["step"] = launch_milliseconds(step, 5, device)
    found["log"] = launch_milliseconds(lambda: json.dumps(task.measure(1, outputs)), 5, device)
    # The op's call includes checking and packing.
    found["launch"] -= found["check"] + found["pack"]
    return found
