"""Faults that pass: tried again with growing pauses, and counted (``read_retries`` in the metrics).

Disks of a network say EIO or ESTALE for a while, servers 5xx; the next try is most often answered.
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
"""Seconds; each pause is twice the one before."""
LOCAL_PATIENCE = 4.0
"""Seconds of pauses before a local file counts as unreadable: a broken disk says EIO for ever."""
_PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN})

_SLOTS = 256
_counts = np.frombuffer(mmap.mmap(-1, 8 * _SLOTS), np.int64)
"""A place for each process, in memory that forked decoding processes share with their parent."""
_lock = threading.Lock()
_this_thread = threading.local()


def pauses(patience: float) -> Iterator[float]:
    """Growing pauses that add up to about ``patience`` seconds."""
    pause, spent = _FIRST_PAUSE, 0.0
    while spent < patience:
        yield pause
        spent += pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def retrying(
    call: Callable[[], Result], passes: Callable[[Exception], bool], patience: float
) -> Result:
    """The result of ``call``, which is made again while what it raises ``passes``.

    Args:
        call: may be made any number of times.
        passes: whether an exception tells of a fault that may pass.
        patience: seconds of pauses, after which the last exception is raised.
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
    """From now on this thread's pauses end, and are the last, when the event is set."""
    _this_thread.stopping = stopping


def _wait(seconds: float) -> bool:
    """Pause; whether no more is to be tried."""
    stopping: threading.Event | None = getattr(_this_thread, "stopping", None)
    if stopping is not None:
        return stopping.wait(seconds)
    time.sleep(seconds)
    return False


def is_passing(error: Exception) -> bool:
    """Whether a local file may be readable at the next try."""
    return isinstance(error, OSError) and error.errno in _PASSING


def count_retry() -> None:
    """One more try of this process."""
    with _lock:
        _counts[os.getpid() % _SLOTS] += 1


def retries() -> int:
    """How often this process and those that it forked have tried again."""
    return int(_counts.sum())
