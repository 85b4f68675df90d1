"""Tell the user now and then how far something slow is, from anywhere, by any thread."""

from __future__ import annotations

import logging
import threading
import time

_LOG = logging.getLogger("cp2fast")

_FIRST_SECONDS, _SECONDS = 3.0, 10.0


class ProgressLine:
    """Counts what is done, and logs ``what: 40 of 100`` every ten seconds if it takes that long."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._next = time.monotonic() + _FIRST_SECONDS
        self._lock = threading.Lock()

    def advance(self) -> None:
        """Count one more."""
        with self._lock:
            self._done += 1
            if time.monotonic() < self._next or self._done == self._total:
                return
            self._next = time.monotonic() + _SECONDS
            done = self._done
        _LOG.info("%s: %s of %s", self._what, f"{done:,}", f"{self._total:,}")
