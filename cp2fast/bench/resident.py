"""Memory of this process: what it has now, and the most that it had meanwhile (Linux)."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"
"""What ``/proc/self/clear_refs`` takes to begin the peak anew (man 5 proc)."""


def resident_bytes() -> int:
    """Of the process now; where the system does not tell, the most since it began."""
    return _status("VmRSS") or _peak_since_start()


@contextmanager
def peak_resident() -> Iterator[Callable[[], int]]:
    """Gives a function of the most bytes that the process had since then."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    yield lambda: _status("VmHWM") or _peak_since_start()


def _status(name: str) -> int:
    """A line of the kernel's in bytes; 0 where there is none."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def _peak_since_start() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
