"""The processes of a run as one of them sees them: its ranks, device, agreement and console."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from cp2fast.config import CommonTrainSettings
from cp2fast.train.agreement import Agreement
from cp2fast.train.console import RunConsole
from cp2fast.train.distributed import (
    ALONE,
    Ranks,
    device_of,
    process_group,
    ranks_from_environment,
)


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        ranks: this process's place among them.
        device: this process's device.
        agreement: lets them agree on values, on the host.
        console: prints for the user; silent in all processes but the main one.
    """

    ranks: Ranks
    device: torch.device
    agreement: Agreement
    console: RunConsole

    @staticmethod
    def alone(device: torch.device) -> Processes:
        """A single process, which prints nothing."""
        return Processes(ALONE, device, Agreement(ALONE, 1), RunConsole(quiet=True))

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and prints for the user."""
        return self.ranks.is_main


@contextmanager
def joined_processes(settings: CommonTrainSettings, quiet: bool = False) -> Iterator[Processes]:
    """Join the processes that torchrun started, or run as a single one; ``quiet`` prints nothing.

    Raises:
        UserError: the environment describes no such processes, or the device is not there.
    """
    ranks = ranks_from_environment()
    device = device_of(settings.device, ranks)
    console = RunConsole(quiet=quiet or not ranks.is_main)
    with process_group(ranks, device, settings.timeout_minutes):
        yield Processes(ranks, device, Agreement(ranks, settings.timeout_minutes), console)
