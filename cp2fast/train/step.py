"""One step of the optimiser: forward, backward, update; nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields

import torch
from torch.nn.parallel import DistributedDataParallel

from cp2fast.batch import CopyPasteBatch
from cp2fast.model.cp2 import CP2Output
from cp2fast.train.precision import autocast
from cp2fast.train.run import Run


def train_step(run: Run, batches: Iterator[CopyPasteBatch]) -> CP2Output:
    """Train on ``train.accumulate`` batches, each contrasted and enqueued by itself.

    Args:
        run: its network, optimiser and scaler are changed.
        batches: the step's; each is asked for when the one before is done.

    Returns:
        The mean of the batches' outputs, without gradient.
    """
    count = run.settings.train.accumulate
    outputs = []
    for number, batch in enumerate(batches):
        is_last = number == count - 1
        with _gradients_stay_here(run, unless=is_last):
            with autocast(run.dtype, run.device):
                output: CP2Output = run.trained(
                    batch.query,
                    batch.key,
                    batch.query_mask,
                    batch.key_mask,
                    move_key_encoder=number == 0,
                )
            run.scaler.scale(output.loss / count).backward()  # type: ignore[no-untyped-call]
        outputs.append(output)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    return _mean(outputs)


def _gradients_stay_here(run: Run, unless: bool) -> AbstractContextManager[None]:
    """Processes exchange their gradients once a step, with the last batch's."""
    if unless or not isinstance(run.trained, DistributedDataParallel):
        return nullcontext()
    return run.trained.no_sync()


def _mean(outputs: list[CP2Output]) -> CP2Output:
    return CP2Output(
        *(
            torch.stack([getattr(output, field.name).detach() for output in outputs]).mean()
            for field in fields(CP2Output)
        )
    )
