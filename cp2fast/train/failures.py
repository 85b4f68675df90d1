"""Failures that the user can fix, reported in one line: memory, disk, a missing run folder."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cp2fast.config import MIN_IMAGES_FOR_BATCH_BACKGROUNDS as FEWEST
from cp2fast.errors import UserError, is_out_of_memory
from cp2fast.files import place_of
from cp2fast.train.run import Run

_OF_THE_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE),
}


@contextmanager
def explained(run: Run[Any]) -> Iterator[None]:
    """Replace errors of a full memory or disk by a ``UserError`` that says what to change."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(_out_of_memory(run, error)) from error
    except OSError as error:
        gone = not run.folder.holds_run or place_of(run.folder.checkpoints) == "nothing"
        if not gone and error.errno not in _OF_THE_DISK:
            raise
        raise UserError(_moved(run) if gone else _cannot_write(run, error)) from error


def _out_of_memory(run: Run[Any], error: Exception) -> str:
    learner, batch = run.task.learner, run.task.settings.data.batch_size
    cache = getattr(run.task, "cache", None)  # of a pretraining
    cached_on = None if cache is None or cache.arena is None else cache.arena.pixels.device.type
    of_host = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    if of_host and learner.device.type != "cpu":
        smaller = ", or a smaller data.cache_gib" if cached_on == "cpu" else ""
        return f"the host's memory is full: use fewer data.workers{smaller}"
    # As many samples a step as now, or the run could not be resumed with it.
    parts = next((k for k in range(2, batch // FEWEST + 1) if batch % k == 0), None)
    advice = ["a smaller model.size"]
    if parts is not None:
        accumulate = f"train.gradient_accumulation_steps={parts * learner.accumulate}"
        advice = [f"data.batch_size={batch // parts} {accumulate}"]
    if learner.dtype == torch.float32:
        advice.append("train.precision=bf16")
    if cached_on not in (None, "cpu"):
        advice.insert(0, "data.cache=host")
    return (
        f"the memory of {learner.device} does not hold data.batch_size={batch}: "
        f"use {', or '.join(advice)}"
    )


def _moved(run: Run[Any]) -> str:
    return (
        f"{run.folder.path} is no longer there: it was moved or deleted while the run wrote to it; "
        "go on from where it is now with --resume --out DIR"
    )


def _cannot_write(run: Run[Any], error: OSError) -> str:
    return (
        f"cannot write {error.filename or run.folder.path}: {error.strerror}; the checkpoints "
        "before are intact: make room, then continue with --resume"
    )
