"""The CPU cores and the devices that this process may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cp2fast.errors import UserError

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


def device_named(name: torch.device | str) -> torch.device:
    """The device with a name of torch's, such as ``cuda:1``.

    Raises:
        UserError: there is no such device here.
    """
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} cannot be used: {str(error).splitlines()[0]}") from error
    return device
