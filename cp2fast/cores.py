"""The processor cores that this process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Those it is allowed to run on, where the system can say; else all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoding_workers(setting: int | None) -> int:
    """What ``data.workers`` comes to: None is all cores.

    Processes of one run on this machine share them, by what torchrun says in the environment.
    """
    if setting is not None:
        return setting
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
