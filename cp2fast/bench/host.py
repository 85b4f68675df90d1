"""The host's time per step, by part: draw, check, pack, launch, step, log.

On a GPU these are the times to launch the work, which runs asynchronously. On a CPU, ``launch`` and
``step`` include the work itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median

from cp2fast.bench.timing import finish
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.validate import validate
from cp2fast.copypaste.views import pack
from cp2fast.data.order import plan
from cp2fast.data.sources.open import open_source
from cp2fast.pretrain.task import PretrainTask

_REPEATS, _STEPS = 30, 5


def host_milliseconds(task: PretrainTask) -> dict[str, float]:
    """Median times in milliseconds, by part of a step.

    Args:
        task: task of a run that has not started.
    """
    settings, device, learner = task.settings, task.learner.device, task.learner
    data, augment, size = settings.data, settings.augment, settings.model.size
    independent = data.background == "independent"
    numbers = plan(
        seed=0,
        count=task.images,
        batch_size=data.batch_size,
        start=0,
        stop=1,
        independent=independent,
    )
    decoded = open_source(task.source, data, task.image_set, numbers, 0, device, task.bad)
    batch = next(decoded)
    del decoded  # ends its threads or processes
    batch = batch.to(device)
    parameters = sample_parameters(0, 0, batch, size, data.background, augment)

    def launch() -> None:
        copy_paste(batch, parameters, size, learner.dtype, mean=augment.mean, std=augment.std)

    pairs = copy_paste(batch, parameters, size, learner.dtype, mean=augment.mean, std=augment.std)
    outputs = learner.step(iter([pairs] * learner.accumulate))

    def log() -> None:
        json.dumps(task.measure(1, outputs))

    parts: dict[str, tuple[Callable[[], object], int]] = {
        "draw": (lambda: sample_parameters(0, 1, batch, size, data.background, augment), _REPEATS),
        "check": (
            lambda: validate(batch, parameters, size, learner.dtype, augment.mean, augment.std),
            _REPEATS,
        ),
        "pack": (lambda: pack(batch, parameters), _REPEATS),
        "launch": (launch, _REPEATS),
        "step": (lambda: learner.step(iter([pairs] * learner.accumulate)), _STEPS),
        "log": (log, _STEPS),
    }
    found = {}
    for name, (work, repeats) in parts.items():
        times = []
        for _ in range(repeats):
            finish(device)
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        found[name] = 1e3 * median(times)
    # The op's call includes checking and packing.
    found["launch"] -= found["check"] + found["pack"]
    return found
