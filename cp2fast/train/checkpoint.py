"""Checkpoints: written whole or not at all, checked when read, read without running code."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cp2fast.errors import UserError
from cp2fast.run_folder import atomic_write

_PATTERN = "step_*.pt"
_PARTIAL_PATTERN = ".step_*.partial"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``state`` (tensors, numbers, strings and containers of them) and drop the oldest.

    Args:
        folder: the run folder's ``checkpoints/``.
        step: steps done.
        state: what ``load_checkpoint`` gives back.
        keep: how many of the newest checkpoints stay.

    Raises:
        UserError: the disk does not take it; the checkpoints before it are as they were.
    """
    path = folder / f"step_{step:09d}.pt"
    for partial in folder.glob(_PARTIAL_PATTERN):  # of a process that was killed while it saved
        partial.unlink(missing_ok=True)
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch reports some failed writes as RuntimeError
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise UserError(
            f"cannot write {path}: {cause.strerror}; the checkpoints before it are intact: make "
            "room, then go on with --resume"
        ) from error
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints, oldest first."""
    return sorted(folder.glob(_PATTERN))


def newest_intact(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is not damaged; None where there is no checkpoint at all.

    Args:
        folder: the run folder's ``checkpoints/``.
        say: tells the user of each damaged one.

    Raises:
        UserError: all are damaged.
    """
    found = list_checkpoints(folder)
    for path in reversed(found):
        problem = damage(path)
        if problem is None:
            return path
        say(f"{path} is damaged ({problem}): going back to the checkpoint before it")
    if found:
        raise UserError(
            f"all {len(found)} checkpoints in {folder} are damaged: start another run with --out "
            "DIR"
        )
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file; None if its checksums are right.

    The file is a zip archive, with a CRC-32 of each tensor, which ``torch.load`` does not check.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
        return str(error)
    return None if member is None else f"the checksum of {member} is wrong"


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
