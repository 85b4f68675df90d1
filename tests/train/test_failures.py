"""Errors of a run put into one line; real ones of disk and memory are in test_faults.py."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cp2fast.data.cache.arena import Arena
from cp2fast.data.cache.open import Cache
from cp2fast.errors import UserError
from cp2fast.train.failures import explained
from tests.train.line import Line, run_of, settings


@pytest.mark.parametrize("allocate", [np.empty, torch.empty])
@pytest.mark.parametrize(
    ("batch", "advice"),
    [
        (64, "data.batch_size=32 train.gradient_accumulation_steps=6"),
        (25, "data.batch_size=5 train.gradient_accumulation_steps=15"),
        (7, "a smaller model.size"),
        (4, "a smaller model.size"),
    ],
)
def test_memory_that_runs_out_is_told_with_settings_that_need_less_and_can_be_resumed(
    tmp_path: Path, allocate, batch: int, advice: str
) -> None:
    line = Line(settings(gradient_accumulation_steps=3))
    line.settings = line.settings.with_values("data", batch_size=batch)
    run = run_of(tmp_path, line)
    with pytest.raises(UserError, match=f"data.batch_size={batch}: use {advice}"), explained(run):
        allocate(1 << 50)


CARD, HOST = torch.device("meta"), torch.device("cpu")
"""As a GPU is to the message: not the host."""


@pytest.mark.parametrize(
    ("cached_on", "error", "message"),
    [
        (CARD, torch.OutOfMemoryError("CUDA out of memory."), "hold .*: use data.cache=host, or d"),
        (HOST, torch.OutOfMemoryError("CUDA out of memory."), "hold .*: use data.batch_size=8 tr"),
        (None, torch.OutOfMemoryError("CUDA out of memory."), "hold .*: use data.batch_size=8 tr"),
        (HOST, MemoryError(), "the host's memory is full: use fewer data.workers, or a smaller da"),
        (CARD, MemoryError(), "the host's memory is full: use fewer data.workers$"),
        (None, RuntimeError("can't allocate memory"), "the host's memory is full: use fewer data"),
    ],
    ids=["gpu-gpu", "gpu-host", "gpu-none", "host-host", "host-gpu", "host-none"],
)
def test_a_run_on_a_gpu_is_told_which_memory_is_full_and_what_of_the_cache_is_there(
    tmp_path: Path, cached_on: torch.device | None, error: Exception, message: str
) -> None:
    line = Line(settings())
    line.settings = line.settings.with_values("data", batch_size=16)
    line.learner.device = CARD
    size = np.array([12])
    line.cache = Cache(None if cached_on is None else Arena.new_gpu(size, cached_on), "")
    with pytest.raises(UserError, match=message), explained(run_of(tmp_path, line)):
        raise error


class Large(Line):
    """A task whose state no memory holds."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        torch.empty(1 << 50)


def test_memory_that_runs_out_while_a_run_is_resumed_does_not_condemn_the_checkpoint(
    tmp_path: Path,
) -> None:
    run = run_of(tmp_path, Large(settings()))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run.load_state_dict(run.state_dict())


def test_a_disk_that_is_full_is_told_with_the_file(tmp_path: Path) -> None:
    run = run_of(tmp_path, Line(settings()))
    with pytest.raises(UserError, match=r"cannot write step\.pt: .*--resume"), explained(run):
        raise OSError(errno.ENOSPC, "No space left on device", "step.pt")


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", Line(settings()))
    shutil.rmtree(run.folder.path)
    with pytest.raises(UserError, match="no longer there"), explained(run):
        (run.folder.path / "file").write_text("")


@pytest.mark.parametrize("bug", [RuntimeError("shapes"), OSError(errno.EBADF, "closed")])
def test_bugs_keep_their_traceback(tmp_path: Path, bug: Exception) -> None:
    run = run_of(tmp_path, Line(settings()))
    with pytest.raises(type(bug), match=str(bug.args[-1])), explained(run):
        raise bug
