"""The run folder: what a run leaves behind, and the rule that nothing in it is overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import IO, Any

from cp2fast.errors import UserError


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
        """The newest checkpoints."""
        return self.path / "checkpoints"

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
        return self.config.exists()

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
        if self.path.is_dir() and any(self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and holds no run: choose another --out DIR")

    def truncate_metrics(self, step: int) -> None:
        """Forget what was logged after ``step``: those steps will be run again."""
        kept = [row for row in read_metrics(self.metrics) if row["step"] <= step]
        with atomic_write(self.metrics) as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in kept)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The logged rows; a last line cut short by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def means_of_end_tenths(values: Sequence[float]) -> tuple[float, float]:
    """Of a logged value, at least one: the means of the first and of the last tenth."""
    tenth = max(1, len(values) // 10)
    return fmean(values[:tenth]), fmean(values[-tenth:])


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
