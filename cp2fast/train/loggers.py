"""Loggers besides ``metrics.jsonl``: TensorBoard, Weights & Biases, MLflow.

Each has its own thread, so a slow or unreachable server does not delay training. A logger that
fails is reported once and then dropped; ``metrics.jsonl`` has everything. W&B and MLflow take their
server and account from their environment variables and files, as usual.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias

from cp2fast.errors import UserError
from cp2fast.run_folder import RunFolder, write_json

Log: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Receives one row: ``step`` and its values, which are numbers or mappings of numbers."""

_PROJECT = "cp2fast"
"""W&B's project and MLflow's experiment if the environment names none."""
_PATIENCE = 60.0
"""Seconds to wait for a logger's last rows at the end of a run."""
_ids_lock = threading.Lock()


class _Row(NamedTuple):
    step: int
    milliseconds: int
    values: dict[str, float]


@dataclass(frozen=True)
class _Run:
    """What a logger needs to know about the run."""

    folder: RunFolder
    config: Mapping[str, Any]
    first_step: int
    say: Callable[[str], None]


class _Logger(NamedTuple):
    """An open logger; ``close`` receives whether the run failed."""

    write: Callable[[_Row], None]
    close: Callable[[bool], None]


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a logger that is not installed.

    Args:
        names: values of ``train.log``.

    Raises:
        UserError: a logger is not installed; gives the command that installs it.
    """
    for name in names:
        spec = find_spec(name)
        # A folder of that name, such as W&B creates, is found too, but has no origin.
        if spec is None or spec.origin is None:
            raise UserError(
                f"train.log={name}: {name} is not installed: pip install {name}, or leave it out"
            )


@contextmanager
def loggers(
    names: Sequence[str],
    config: Mapping[str, Any],
    folder: RunFolder,
    first_step: int,
    say: Callable[[str], None],
) -> Iterator[Log]:
    """Pass each row to every logger; on exit, wait for their last rows or give up.

    Args:
        names: values of ``train.log``.
        config: the run's settings, as plain nested values.
        folder: folder of the run; the run's ids in W&B and MLflow are stored there.
        first_step: number of steps done before; rows of later steps are logged.
        say: called with one line for each logger that fails.
    """
    run = _Run(folder, config, first_step, say)
    threads = [_LoggerThread(name, run) for name in dict.fromkeys(names)]

    def follow(row: Mapping[str, Any]) -> None:
        taken = _Row(row["step"], time.time_ns() // 1_000_000, dict(_scalars(row)))
        for thread in threads:
            thread.take(taken)

    failed = True
    try:
        yield follow
        failed = False
    finally:
        for thread in threads:
            thread.end(failed)


class _LoggerThread:
    """A thread that opens a logger and writes rows to it; a failure is reported in one line."""

    def __init__(self, name: str, run: _Run) -> None:
        self._name, self._run = name, run
        self._rows: SimpleQueue[_Row | None] = SimpleQueue()
        self._run_failed = self._is_dead = False
        self._thread = threading.Thread(target=self._follow, name=f"cp2fast-{name}", daemon=True)
        with self._giving_up():
            # Not in the thread: decoding processes are forked soon, unsafe during an import.
            import_module(_MODULE[name])
            self._thread.start()

    def take(self, row: _Row) -> None:
        if not self._is_dead:
            self._rows.put(row)

    def end(self, run_failed: bool) -> None:
        if self._is_dead:
            return
        self._run_failed = run_failed
        self._rows.put(None)
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            self._give_up(f"has not taken the last rows within {_PATIENCE:.0f} s")

    def _follow(self) -> None:
        with self._giving_up():
            logger = _OPEN[self._name](self._run)
            while (row := self._rows.get()) is not None:
                logger.write(row)
            logger.close(self._run_failed)

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # The run continues without this logger whatever the error.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._give_up(f"failed: {lines[0]}")

    def _give_up(self, why: str) -> None:
        if self._is_dead:
            return
        self._is_dead = True
        if self._run.folder.holds_run:  # Else the run itself ends and says so.
            self._run.say(
                f"train.log={self._name} {why}; the run continues without it, and "
                f"{self._run.folder.metrics} has every row"
            )


@functools.cache
def _leave_errors_to_the_writer() -> None:
    """Hide tracebacks of TensorBoard's own thread, which passes its errors on to the writer."""
    others = threading.excepthook

    def hook(caught: threading.ExceptHookArgs) -> None:
        if not type(caught.thread).__module__.startswith("tensorboard."):
            others(caught)

    threading.excepthook = hook


def _open_tensorboard(run: _Run) -> _Logger:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard.writer import SummaryWriter

    _leave_errors_to_the_writer()
    writer = SummaryWriter(str(run.folder.tensorboard), purge_step=run.first_step + 1)
    events: Any = writer.file_writer

    def write(row: _Row) -> None:
        # One event a row: add_scalar writes one for each value, which costs four times as much.
        values = [Summary.Value(tag=name, simple_value=v) for name, v in row.values.items()]
        events.add_summary(Summary(value=values), row.step, row.milliseconds / 1e3)
        writer.flush()

    return _Logger(write, lambda failed: writer.close())


def _open_wandb(run: _Run) -> _Logger:
    import wandb

    silent = wandb.Settings(silent=True, console="off")  # and never ask for a key
    wandb.setup(settings=silent)
    arguments: dict[str, Any] = {
        "project": os.environ.get("WANDB_PROJECT", _PROJECT),
        "dir": str(run.folder.path),
        "name": run.folder.path.name,
        "id": _read_ids(run.folder).get("wandb"),
        "resume": "allow",
        "config": dict(run.config),
        "allow_val_change": True,
        "settings": silent,
    }
    try:
        known = wandb.init(**arguments)
    except wandb.Error as error:
        if os.environ.get("WANDB_MODE") == "offline":
            raise
        run.say(
            f"train.log=wandb is kept offline ({str(error).splitlines()[0].rstrip('.')}): upload "
            f"it with wandb sync {run.folder.path}/wandb/offline-run-*"
        )
        known = wandb.init(**arguments, mode="offline")
    _keep_id(run.folder, "wandb", known.id)

    def write(row: _Row) -> None:
        known.log(row.values, step=row.step)

    return _Logger(write, lambda failed: known.finish(exit_code=int(failed)))


def _open_mlflow(run: _Run) -> _Logger:
    import mlflow
    from mlflow.entities import Metric, Param

    for noisy in ("mlflow", "alembic", "urllib3"):  # failures are raised as exceptions too
        logging.getLogger(noisy).setLevel(logging.ERROR)
    client = mlflow.MlflowClient()
    known = _read_ids(run.folder).get("mlflow")
    if known is None:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        experiment = mlflow.set_experiment(name).experiment_id
        known = client.create_run(experiment, run_name=run.folder.path.name).info.run_id
        _keep_id(run.folder, "mlflow", known)
        # It refuses other characters in names, as of classes.
        named = {re.sub(r"[^\w.\- :/]", "_", name): value for name, value in _flat(run.config)}
        parameters = [Param(name, str(value)) for name, value in named.items()]
        client.log_batch(known, params=parameters)
    else:
        client.update_run(known, status="RUNNING")

    def write(row: _Row) -> None:
        metrics = [Metric(n, v, row.milliseconds, row.step) for n, v in row.values.items()]
        client.log_batch(known, metrics=metrics)

    def close(failed: bool) -> None:
        client.set_terminated(known, "FAILED" if failed else "FINISHED")

    return _Logger(write, close)


_MODULE = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
_OPEN: dict[str, Callable[[_Run], _Logger]] = {
    "tensorboard": _open_tensorboard,
    "wandb": _open_wandb,
    "mlflow": _open_mlflow,
}


def _read_ids(folder: RunFolder) -> dict[str, str]:
    """The run's id in each logger, by logger name."""
    if not folder.loggers.exists():
        return {}
    return dict(json.loads(folder.loggers.read_text(encoding="utf-8")))


def _keep_id(folder: RunFolder, name: str, known: str) -> None:
    with _ids_lock:
        ids = _read_ids(folder) | {name: known}
        write_json(folder.loggers, ids)


def _scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a row except its step; those of a mapping are named ``mapping/name``."""
    for name, value in _flat(row, "/"):
        if name != "step" and isinstance(value, int | float):
            yield name, float(value)


def _flat(values: Mapping[str, Any], separator: str = ".") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            for inner, of_inner in _flat(value, separator):
                yield f"{name}{separator}{inner}", of_inner
        else:
            yield name, value
