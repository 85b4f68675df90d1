"""The CPU cores that this process may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def available_cores() -> int:
    """The number of cores that it may run on if the system says so; else of all cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoding_workers(setting: int | None) -> int:
    """The number of workers for ``data.workers``; None means all cores.

    Processes of one run on the same machine share the cores, as given by torchrun's environment.
    """
    if setting is not None:
        return setting
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def decodes_apart(device: torch.device) -> bool:
    """Whether threads that decode belong in processes of their own (see ``data/workers``).

    They do if this process launches the kernels of a GPU: the threads' work would delay launches.
    """
    return device.type == "cuda"
