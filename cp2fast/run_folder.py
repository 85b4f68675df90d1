"""The run folder: what a run writes, and the rule that nothing in it is overwritten.

All code that loads the weights of a run finds them here, so a damaged checkpoint is never used
silently.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import IO, Any
from uuid import uuid4

import yaml

from cp2fast.errors import UserError
from cp2fast.files import is_file, list_folder, place_of, read_text

BEST = "best.pt"
"""The checkpoint with the highest score so far, if the run is evaluated along the way."""
LONGEST_NAME = 255
"""Longest name of a file, in bytes, on common file systems."""
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(RuntimeError, ValueError, LookupError),
)
"""What reading a damaged archive raises."""
NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What reading text that is no YAML raises: ``!!bool maybe`` is a KeyError of PyYAML's."""
_STEP = re.compile(r"step_(\d{9,})\.pt")


class RunFolder:
    """``runs/NAME``, or the folder given with ``--out``.

    Attributes:
        path: the folder.
        config: the resolved settings.
        metrics: one JSON object per logged step.
        checkpoints: folder of the newest checkpoints and the best one.
        lock: exists while a process writes here; it names that process.
        tensorboard: TensorBoard's event files.
        loggers: the ids of the run in W&B and MLflow; exists only if one of them is used.
        preview: composed pairs from the first batch.
        curves: plot of the metrics over the steps.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.lock = path / "running.lock"
        self.tensorboard = path / "tensorboard"
        self.loggers = path / "loggers.json"
        self.preview = path / "preview.png"
        self.curves = path / "curves.png"

    @property
    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return place_of(self.config) != "nothing"

    @property
    def kind(self) -> str | None:
        """``pretrain`` or ``finetune``; None if no run was started."""
        try:
            settings = yaml.safe_load(read_text(self.config))
        except (UserError, *NOT_YAML):
            return None
        if not isinstance(settings, dict):
            return None
        return "finetune" if "evaluation" in settings else "pretrain"

    def create(self, config_yaml: str) -> None:
        """Create the folder for a new run.

        Raises:
            UserError: it already holds a run or other files, or cannot be written.
        """
        self.refuse_unless_new()
        try:
            self.checkpoints.mkdir(parents=True)
            with atomic_write(self.config) as file:
                file.write(config_yaml.encode())
        except OSError as error:
            raise UserError(
                f"cannot write the run folder {self.path}: {error.strerror}; choose another --out"
            ) from error

    def refuse_unless_new(self) -> None:
        """Raise the same errors as ``create``, as far as they can be detected in advance.

        Raises:
            UserError: the folder already holds a run or other files.
        """
        if self.holds_run:
            raise UserError(
                f"{self.path} already holds a run: --resume continues it, --out DIR starts another"
            )
        if list_folder(self.path):
            raise UserError(f"{self.path} is not empty and holds no run: choose another --out DIR")

    def truncate_metrics(self, step: int, owes_evaluation: bool = False) -> None:
        """Remove the rows logged after ``step``: those steps will be run again.

        With ``owes_evaluation``, remove the evaluation at ``step`` as well, which will be repeated.
        """
        kept = [
            row
            for row in read_metrics(self.metrics)
            if row["step"] < step
            or (row["step"] == step and ("loss" in row or not owes_evaluation))
        ]
        with atomic_write(self.metrics) as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in kept)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The logged rows, without lines that a crash has cut short or damaged."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def checkpoint_name(step: int) -> str:
    """The file name of the checkpoint after ``step`` steps."""
    return f"step_{step:09d}.pt"


def checkpoint_step(path: Path) -> int:
    """The step of a checkpoint from ``list_checkpoints``."""
    return int(path.stem.removeprefix("step_"))


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints by step, oldest first, without the best one and unrelated files.

    Args:
        folder: the run folder's ``checkpoints/``.
    """
    found = [path for path in list_folder(folder) if _STEP.fullmatch(path.name)]
    return sorted(found, key=checkpoint_step)


def newest_intact(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is not damaged; None if there are no checkpoints.

    Args:
        folder: the run folder's ``checkpoints/``.
        say: called with a message for each damaged checkpoint.

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


def trained_weights(
    run: Path, say: Callable[[str], None], warn: Callable[[str], None]
) -> Path | None:
    """The best checkpoint of a run, or its newest intact one if there is no intact best one.

    Args:
        run: the run folder.
        say: called with a message if the best checkpoint is used.
        warn: called with a message for each damaged checkpoint.

    Returns:
        None if there are no checkpoints.

    Raises:
        UserError: all are damaged.
    """
    folder = run / "checkpoints"
    best = folder / BEST
    if is_file(best):
        problem = damage(best)
        if problem is None:
            say(f"{best}: the best of the run by mIoU; name another checkpoint to use that one")
            return best
        warn(f"{best} is damaged ({problem}): taking the newest checkpoint instead")
    return newest_intact(folder, warn)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file; None if its checksums match.

    The file is a zip archive with a CRC-32 per tensor, which ``torch.load`` does not check.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except DAMAGED as error:
        return str(error) or type(error).__name__
    return None if member is None else f"the checksum of {member} is wrong"


def means_of_end_tenths(values: Sequence[float]) -> tuple[float, float]:
    """The means of the first and the last tenth of a logged value; at least one value."""
    tenth = max(1, len(values) // 10)
    return fmean(values[:tenth]), fmean(values[-tenth:])


def write_json(path: Path, content: object) -> None:
    """Write a JSON file with ``atomic_write``."""
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write a file so that it appears under ``path`` complete and on disk, or not at all.

    It is written under a temporary name, flushed to disk and renamed; then the folder is flushed,
    so that the rename survives a power failure.

    Raises:
        OSError: it cannot be written; ``filename`` is ``path``, also where the system names none,
            as of a full disk.
    """
    own = uuid4().hex[:12]  # not the process number, which may be the same on another host
    aside = path.with_name(f".{path.name}.{own}.partial")
    if len(os.fsencode(aside.name)) > LONGEST_NAME:
        aside = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.{own}.partial")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(aside)):
            error.filename = str(path)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
