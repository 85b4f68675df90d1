"""Retry temporary faults with growing pauses, and count the retries (``read_retries``).

Network disks may report EIO or ESTALE for a while, servers 5xx; usually the next try succeeds.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
"""In seconds; each pause is twice as long as the one before."""
LOCAL_PATIENCE = 4.0
"""In seconds: after eight, by the pauses, a local file counts as unreadable. A broken disk reports
EIO for ever."""
_PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN})

_SLOTS = 256
_counts = np.frombuffer(mmap.mmap(-1, 8 * _SLOTS), np.int64)
"""One counter per process, in memory shared by forked decoding processes and their parent."""
_lock = threading.Lock()
_this_thread = threading.local()


def pauses(patience: float) -> Iterator[float]:
    """Growing pauses that total ``patience`` seconds, or more by a part of the last."""
    pause, spent = _FIRST_PAUSE, 0.0
    while spent < patience:
        yield pause
        spent += pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def retrying(
    call: Callable[[], Result], passes: Callable[[Exception], bool], patience: float
) -> Result:
    """The result of ``call``, tried again while ``passes`` says that its exception is temporary.

    After ``patience`` seconds of waiting in total, the last exception is raised.
    """
    for pause in pauses(patience):
        try:
            return call()
        except Exception as error:
            if not passes(error):
                raise
        count_retry()
        if _wait(pause):
            break
    return call()


def give_up_when(stopping: threading.Event) -> None:
    """Make this thread stop retrying, and waiting, once the event is set."""
    _this_thread.stopping = stopping


def _wait(seconds: float) -> bool:
    """Wait; returns whether to stop retrying."""
    stopping: threading.Event | None = getattr(_this_thread, "stopping", None)
    if stopping is not None:
        return stopping.wait(seconds)
    time.sleep(seconds)
    return False


def is_passing(error: Exception) -> bool:
    """Whether a local file may be readable when tried again."""
    return isinstance(error, OSError) and error.errno in _PASSING


def count_retry(retries: int = 1) -> None:
    """Count retries in this process."""
    with _lock:
        _counts[os.getpid() % _SLOTS] += retries


def retries() -> int:
    """The number of retries in this process and those that it forked."""
    return int(_counts.sum())
