"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal) ask a run to stop after the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopAsked(Exception):  # noqa: N818
    """A stop was requested during a preparation or an evaluation; what it did is discarded."""


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a stop was requested.

    The first SIGINT, SIGTERM or SIGHUP is only recorded; a second SIGINT interrupts at once, as
    usual. Under ``nohup``, SIGHUP remains ignored. Python handles signals only in the main
    thread, so a run in another thread cannot be stopped this way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and signum == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
