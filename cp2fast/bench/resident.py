"""Resident memory of this process: current, and peak during a measurement."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"
"""Value for ``/proc/self/clear_refs`` that resets the peak (man 5 proc)."""


def resident_bytes() -> int:
    """Current bytes of the process."""
    return _status("VmRSS")


@contextmanager
def peak_resident() -> Iterator[Callable[[], int]]:
    """Yields a function that returns the peak bytes of the process from then on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    yield lambda: _status("VmHWM")


def _status(name: str) -> int:
    """A value of Linux's status, in bytes; on macOS the peak since the process began."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = _STATUS.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
