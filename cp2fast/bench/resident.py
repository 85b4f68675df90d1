"""Resident memory of this process: current, and peak during a measurement (Linux)."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"
"""Value for ``/proc/self/clear_refs`` that resets the peak (man 5 proc)."""


def resident_bytes() -> int:
    """Current bytes of the process, or the peak since its start if the system reports only that."""
    return _status("VmRSS") or _peak_since_start()


@contextmanager
def peak_resident() -> Iterator[Callable[[], int]]:
    """Yields a function that returns the peak bytes of the process from then on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    yield lambda: _status("VmHWM") or _peak_since_start()


def _status(name: str) -> int:
    """A value of the kernel's status, in bytes; 0 if it is missing."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def _peak_since_start() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
