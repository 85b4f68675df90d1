"""Checkpoints: written whole or not at all, read without running code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from cp2fast.errors import UserError
from cp2fast.train.run_folder import atomic_write

_PATTERN = "step_*.pt"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``state`` (tensors, numbers, strings and containers of them) and drop the oldest.

    Args:
        folder: the run folder's ``checkpoints/``.
        step: steps done.
        state: what ``load_checkpoint`` gives back.
        keep: how many of the newest checkpoints stay.
    """
    path = folder / f"step_{step:09d}.pt"
    with atomic_write(path) as file:
        torch.save(state, file)
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints, oldest first."""
    return sorted(folder.glob(_PATTERN))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, tensors and plain values only.

    Raises:
        UserError: the file is not a checkpoint, or is damaged.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a checkpoint: it holds a {type(state).__name__}")
    return state
