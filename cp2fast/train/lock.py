"""One run at a time in a run folder: a lock file names the process that writes there."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cp2fast.errors import UserError
from cp2fast.run_folder import RunFolder


@dataclass(frozen=True)
class Holder:
    """A process; ``started``, where known, tells it from a later one with the same PID."""

    host: str
    pid: int
    started: str


def this_process() -> Holder:
    """What tells this process from all others."""
    return Holder(socket.gethostname(), os.getpid(), _started(os.getpid()) or "")


def refuse_running(folder: RunFolder) -> None:
    """Refuse a run folder that another process is using.

    Raises:
        UserError: the folder is in use, or this machine cannot tell.
    """
    if not folder.lock.exists():
        return
    holder = _read(folder.lock)
    if holder is None or holder.host != socket.gethostname():
        who = "a process" if holder is None else f"process {holder.pid} on {holder.host}"
        raise UserError(
            f"{folder.path} is in use by {who}, which cannot be seen from here: if it has ended, "
            f"delete {folder.lock}, then --resume"
        )
    if _started(holder.pid) == holder.started:
        raise UserError(
            f"the run in {folder.path} is still running, as process {holder.pid}: wait for it, or "
            f"stop it with kill {holder.pid}, which saves; then --resume"
        )


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the lock of a run folder, which must exist, for the duration of the context.

    Raises:
        UserError: as ``refuse_running``, or the folder cannot be written.
    """
    holder = this_process()
    try:
        with _one_at_a_time(folder.path):
            refuse_running(folder)
            folder.lock.unlink(missing_ok=True)  # left by a process that is gone
            file = folder.lock.open("x", encoding="utf-8")  # fails if another was faster
            try:
                with file:
                    json.dump(asdict(holder), file)
            except OSError:  # the disk is full, and an empty lock would never be given up
                folder.lock.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(
            f"cannot write the run folder {folder.path}: {error.strerror}; fix that, or start "
            "another run with --out DIR"
        ) from error
    try:
        yield
    finally:
        if _read(folder.lock) == holder:
            with suppress(OSError):
                folder.lock.unlink()


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Keep others that take over the same lock waiting, where the file system can lock folders."""
    folder = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def _started(pid: int) -> str | None:
    """Start time of a local process in ticks; empty if unknown, None if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
