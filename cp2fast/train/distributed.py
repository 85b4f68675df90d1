"""The processes of a run: a single one, or one per GPU under torchrun."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import cast
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from cp2fast.errors import UserError

ENDLESS = timedelta(days=365)
"""The longest timeout: torch has no infinite one, and fails with one of centuries."""

_meeting = ""
"""Name of the current ``process_group``."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of the run; by default it is the only one.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes on all machines.
        local_rank: number of this process on its machine, and of its GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and prints for the user."""
        return self.rank == 0


ALONE = Ranks()


def ranks_from_environment() -> Ranks:
    """The ranks that torchrun sets in the environment; without them, a single process.

    Raises:
        UserError: they do not fit together.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names):
        return ALONE
    given = [os.environ[name] for name in names]
    if all(value.isdecimal() for value in given):
        ranks = Ranks(*map(int, given))
        if ranks.rank < ranks.world_size:
            return ranks
    raise _no_processes(names)


def _no_processes(names: Sequence[str]) -> UserError:
    shown = " ".join(f"{name}={os.environ.get(name, '')}" for name in names)
    return UserError(
        f"the environment variables of the processes do not fit together ({shown}): start them "
        "with torchrun, or unset RANK for a single one"
    )


def device_of(setting: str, ranks: Ranks) -> torch.device:
    """The device of this process.

    Args:
        setting: ``train.device``: ``auto``, ``cpu`` or ``cuda``.
        ranks: process r of a machine uses its GPU r.

    Raises:
        UserError: ``cuda`` without a GPU, or more processes on this machine than GPUs.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "train.device=cuda, but torch sees no CUDA GPU here: use train.device=cpu, "
            "or check the driver with nvidia-smi"
        )
    if setting == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if ranks.local_rank >= count:
        raise UserError(
            f"process {ranks.local_rank} of this machine has no GPU, because it has {count}: "
            f"use torchrun --nproc-per-node {count}"
        )
    return torch.device("cuda", ranks.local_rank)


@contextmanager
def process_group(ranks: Ranks, device: torch.device, timeout_minutes: float) -> Iterator[None]:
    """Join the processes for the duration of the context: NCCL for GPUs, gloo for CPUs.

    For a single process no group is created.

    Args:
        ranks: result of ``ranks_from_environment``.
        device: result of ``device_of``; becomes this process's current GPU.
        timeout_minutes: see ``longest_wait``; also that of the collectives of this group.

    Raises:
        UserError: the environment does not say where the processes meet, one of them does not
            come or is lost, or this one is in a group of torch's already.
    """
    global _meeting
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if ranks.world_size == 1:
        yield
        return
    if dist.is_initialized():
        raise UserError(
            "this process is in a process group of torch's already: if the script made it, call "
            "torch.distributed.destroy_process_group() before; if a run failed, start all anew"
        )
    meeting = ("MASTER_ADDR", "MASTER_PORT")
    if not (os.environ.get(meeting[0]) and os.environ.get(meeting[1], "").isdecimal()):
        raise _no_processes(meeting)
    timeout = longest_wait(timeout_minutes)
    try:
        _meeting = _meet(ranks, timeout)
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"rank {ranks.rank} of {ranks.world_size} could not meet the others through rank 0 at "
            f"{':'.join(os.environ[name] for name in meeting)} ({reason}): look at what they say, "
            f"and check {' and '.join(meeting)}"
        ) from error
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=shared_store("collectives", ranks, timeout),
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout=timeout,
        device_id=device if device.type == "cuda" else None,
    )
    try:
        yield
    except RuntimeError as error:
        if "gloo/transport" not in str(error):
            raise
        raise _lost(ranks, error) from error
    # Skipped after an error: the others are waiting in collectives, NCCL's shutdown would wait for
    # them, and the error would never be reported. Exiting ends this process's part of the group.
    dist.destroy_process_group()


def _lost(ranks: Ranks, error: RuntimeError) -> UserError:
    reason = str(error).splitlines()[0].partition("] ")[2].partition(". ")[0]
    slow = ", or raise train.timeout_minutes if they are only slow" if "Timed out" in reason else ""
    return UserError(
        f"rank {ranks.rank} of {ranks.world_size} has lost the others ({reason}): look at what "
        f"they say{slow}"
    )


def longest_wait(timeout_minutes: float) -> timedelta:
    """How long processes wait for each other where none of them may be at work for hours.

    It is twice ``train.timeout_minutes`` plus one minute, up to a year: this long, so that the
    watchdog, which knows more about the cause, reports first.
    """
    return timedelta(minutes=min(2 * timeout_minutes + 1, ENDLESS / timedelta(minutes=1)))


def shared_store(name: str, ranks: Ranks, timeout: timedelta) -> Store:
    """A new connection to the processes' store, with keys for this ``process_group`` alone."""
    return PrefixStore(f"cp2fast/{_meeting}/{name}", _connect(ranks, timeout))


def launch_store(ranks: Ranks) -> Store | None:
    """What all processes that one torchrun starts and restarts have in common; None without it."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # it would end with this process
        return None
    return PrefixStore("cp2fast/launch", _connect(ranks, timedelta(seconds=30)))


def _connect(ranks: Ranks, timeout: timedelta) -> Store:
    """Connect to torchrun's key-value store, or to one of the main process."""
    met = next(rendezvous("env://", ranks.rank, ranks.world_size, timeout=timeout))
    return cast(Store, met[0])


_first_connection = cache(_connect)
"""Kept until the process ends, and with it the store, should the main process have it."""


def _meet(ranks: Ranks, timeout: timedelta) -> str:
    """A new name, which all processes that are here get and no earlier ones had.

    The store outlives processes that torchrun restarts, and a script may train several times. The
    addresses of dead processes are then found there, and nothing tells the attempts apart: each
    machine counts its own restarts. So each process asks by a new name of its own, and the main
    process answers all until each has heard it.

    Raises:
        UserError: in the main process: one of them did not come.
        torch.distributed.DistStoreError, torch.distributed.DistNetworkError: nobody answers.
    """
    store = PrefixStore("cp2fast/meeting", _first_connection(ranks, timeout))
    own, deadline = uuid4().hex, time.monotonic() + timeout.total_seconds()
    if not ranks.is_main:
        store.set(str(ranks.rank), own)
        store.wait([own], timeout)
        meeting = store.get(own).decode()
        store.set(f"{meeting}/{ranks.rank}", "heard")
        return meeting
    missing = list(range(1, ranks.world_size))
    while missing:
        if time.monotonic() > deadline:
            raise UserError(
                f"rank {missing[0]} of {ranks.world_size} has not joined within "
                f"{timeout.total_seconds() / 60:g} minutes: look at what it says, and its machine"
            )
        for rank in missing:
            if store.check([str(rank)]):
                store.set(store.get(str(rank)).decode(), own)
        time.sleep(0.01)
        missing = [rank for rank in missing if not store.check([f"{own}/{rank}"])]
    return own
