"""The processor cores that this process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Those it is allowed to run on, where the system can say; else all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
