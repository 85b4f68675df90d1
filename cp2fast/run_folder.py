"""The run folder: what a run writes, and the rule that nothing in it is overwritten.

All code that needs the weights of a run finds them here: a damaged checkpoint is never used
silently.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import IO, Any

import yaml

from cp2fast.errors import UserError
from cp2fast.files import is_file, list_folder, place_of

BEST = "best.pt"
"""The checkpoint with the highest score so far, where a run is evaluated on the way."""
_STEP = re.compile(r"step_(\d{9,})\.pt")


@dataclass(frozen=True)
class RunFolder:
    """``runs/NAME``, or the folder given with ``--out``."""

    path: Path

    @property
    def config(self) -> Path:
        """The settings as resolved."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a logged step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The newest checkpoints, and the best."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        """There while a process writes here, which it names."""
        return self.path / "running.lock"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def loggers(self) -> Path:
        """The ids under which W&B and MLflow know the run; there only where one is asked for."""
        return self.path / "loggers.json"

    @property
    def preview(self) -> Path:
        """Composed pairs of the first batch."""
        return self.path / "preview.png"

    @property
    def curves(self) -> Path:
        """The metrics over the steps."""
        return self.path / "curves.png"

    @property
    def holds_run(self) -> bool:
        """Whether a run was begun here."""
        return place_of(self.config) != "nothing"

    @property
    def kind(self) -> str | None:
        """``pretrain`` or ``finetune``; None where no run was begun."""
        try:
            settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return None
        if not isinstance(settings, dict):
            return None
        return "finetune" if "evaluation" in settings else "pretrain"

    def create(self, config_yaml: str) -> None:
        """Make the folder for a new run.

        Raises:
            UserError: it already holds a run or something else, or cannot be written.
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
        """Raise what ``create`` would, as far as it can be known before.

        Raises:
            UserError: the folder already holds a run or something else.
        """
        if self.holds_run:
            raise UserError(
                f"{self.path} already holds a run: --resume continues it, --out DIR starts another"
            )
        if list_folder(self.path):
            raise UserError(f"{self.path} is not empty and holds no run: choose another --out DIR")

    def truncate_metrics(self, step: int) -> None:
        """Forget what was logged after ``step``: those steps will be run again."""
        kept = [row for row in read_metrics(self.metrics) if row["step"] <= step]
        with atomic_write(self.metrics) as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in kept)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The logged rows; a line that a crash has cut short or mangled is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def checkpoint_name(step: int) -> str:
    """The file of the checkpoint after ``step`` steps."""
    return f"step_{step:09d}.pt"


def checkpoint_step(path: Path) -> int:
    """The steps that a file of ``list_checkpoints`` was saved after."""
    return int(path.stem.removeprefix("step_"))


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints by their steps, oldest first; the best and foreign files are not among them.

    Args:
        folder: the run folder's ``checkpoints/``.
    """
    found = [path for path in list_folder(folder) if _STEP.fullmatch(path.name)]
    return sorted(found, key=checkpoint_step)


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


def trained_weights(
    run: Path, say: Callable[[str], None], warn: Callable[[str], None]
) -> Path | None:
    """The best checkpoint of a run, or its newest one where none is the best; intact.

    Args:
        run: the run folder.
        say: tells the user when it is the best that is taken.
        warn: tells the user of each damaged one.

    Returns:
        None where there is no checkpoint.

    Raises:
        UserError: all are damaged.
    """
    folder = run / "checkpoints"
    best = folder / BEST
    if is_file(best):
        problem = damage(best)
        if problem is None:
            say(f"{best}: the best of the run by mIoU; another is taken when it is named")
            return best
        warn(f"{best} is damaged ({problem}): taking the newest checkpoint instead")
    return newest_intact(folder, warn)


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


def means_of_end_tenths(values: Sequence[float]) -> tuple[float, float]:
    """Of a logged value, at least one: the means of the first and of the last tenth."""
    tenth = max(1, len(values) // 10)
    return fmean(values[:tenth]), fmean(values[-tenth:])


def write_json(path: Path, content: object) -> None:
    """A JSON file, as ``atomic_write`` leaves it."""
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under ``path`` complete and on disk, or not at all.

    Written aside, flushed to disk, renamed; then the folder is flushed, so that the rename itself
    survives a power cut.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
