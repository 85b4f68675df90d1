"""Ends a run of several processes that has stalled, and reports which process caused it.

A rank that hangs makes all others wait in a collective, and they cannot tell which rank it is. So
each rank publishes from a thread that it is alive and how far it has come. If its own run has
stalled for too long, it reads what the others published.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import timedelta
from enum import IntEnum
from typing import NamedTuple

from torch.distributed import Store  # type: ignore[attr-defined]

from cp2fast.train.distributed import Ranks, shared_store

_LONGEST_BEAT_SECONDS = 10.0


class Doing(IntEnum):
    """What a rank does in a step, in order."""

    READING = 0
    COMPUTING = 1
    SAVING = 2
    EVALUATING = 3


class Beat(NamedTuple):
    """What a rank publishes.

    Attributes:
        number: counter that grows while the process is alive.
        step: steps done.
        doing: what it has been doing since then.
    """

    number: int
    step: int
    doing: Doing


class Watchdog:
    """Monitors this process's run from a thread; does nothing for a single process."""

    def __init__(self, ranks: Ranks, timeout_minutes: float) -> None:
        """Requires torchrun's environment if there is more than one process."""
        self._ranks = ranks
        self._minutes = timeout_minutes
        self._interval = min(_LONGEST_BEAT_SECONDS, timeout_minutes * 60 / 4)
        self._beats = 0
        self._closed = threading.Event()
        self.note(0, Doing.READING)
        if ranks.world_size > 1:
            threading.Thread(target=self._watch, name="cp2fast-watchdog", daemon=True).start()

    def note(self, step: int, doing: Doing) -> None:
        """Record what the run is about to do; each call counts as progress."""
        self._step, self._doing, self._since = step, doing, time.monotonic()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        store = shared_store("watchdog", self._ranks, timedelta(seconds=30))
        while not self._closed.wait(self._interval):
            self._publish(store)
            if time.monotonic() - self._since > 60 * self._minutes:
                self._end(store)

    def _publish(self, store: Store) -> None:
        self._beats += 1
        store.set(str(self._ranks.rank), f"{self._beats} {self._step} {int(self._doing)}")

    def _end(self, store: Store) -> None:
        """Watch the other ranks' beats for a while, report the diagnosis, and end this process."""
        before, since = self._read(store), self._since
        for _ in range(3):
            time.sleep(self._interval)
            self._publish(store)
        after = self._read(store)
        answering = [rank for rank in after if before[rank].number != after[rank].number]
        if self._closed.is_set() or self._since != since:
            return  # The run ended or continued after all.
        if self._ranks.rank == min(answering):
            print(f"cp2fast: {diagnosis(after, answering, self._minutes)}", file=sys.stderr)
            sys.stderr.flush()
        else:
            time.sleep(4 * self._interval)  # torchrun then ends all: let that rank report first
        os._exit(1)

    def _read(self, store: Store) -> dict[int, Beat]:
        beats = {}
        for rank in range(self._ranks.world_size):
            if store.check([str(rank)]):  # get would wait for one that has never published
                number, step, doing = map(int, store.get(str(rank)).split())
                beats[rank] = Beat(number, step, Doing(doing))
            else:
                beats[rank] = Beat(0, 0, Doing.READING)
        return beats


def diagnosis(beats: dict[int, Beat], answering: list[int], minutes: float) -> str:
    """One line: which ranks hold up the run, and what to do.

    Args:
        beats: the beats of all ranks.
        answering: ranks whose process still runs.
        minutes: how long the run has been stalled.
    """
    silent = [rank for rank in beats if rank not in answering]
    furthest = max((beat.step, beat.doing) for beat in beats.values())
    behind = [rank for rank in answering if (beats[rank].step, beats[rank].doing) < furthest]
    if silent:
        who, what = silent, "does not answer"
    elif behind:
        slowest = min((beats[rank].step, beats[rank].doing) for rank in behind)
        who = [rank for rank in behind if (beats[rank].step, beats[rank].doing) == slowest]
        what = f"hangs while {slowest[1].name.lower()}"
    else:
        who, what = list(beats), f"hangs while {furthest[1].name.lower()}"
    names = "rank" if len(who) == 1 else "each of ranks"
    return (
        f"{names} {', '.join(map(str, who))} of {len(beats)} {what} after step "
        f"{min(beats[rank].step for rank in who)}; no progress for {minutes:g} minutes "
        "(train.timeout_minutes), so the run ends here: look at that machine, then --resume"
    )
