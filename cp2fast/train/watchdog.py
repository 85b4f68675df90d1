"""Ends a run of several processes that has stalled, and reports which process caused it.

A rank that hangs makes all others wait in a collective, and they cannot tell which rank it is. So
each rank publishes from a thread that it is alive, how far it has come and since when. If its own
run has stalled for too long, it reads what the others published: one of them may be at work.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from enum import IntEnum
from typing import NamedTuple

from torch.distributed import Store  # type: ignore[attr-defined]

from cp2fast.train.distributed import Ranks, shared_store

_LONGEST_BEAT_SECONDS = 10.0

Connect = Callable[[str, Ranks, timedelta], Store]


class Doing(IntEnum):
    """What a rank does in a part of a step."""

    READING = 0
    COMPUTING = 1
    SAVING = 2
    EVALUATING = 3


class Place(NamedTuple):
    """How far a rank has come. All ranks go through the same parts of a step in the same order.

    Attributes:
        step: steps done.
        part: parts of the step that it has completed.
        doing: what it does in this part.
    """

    step: int
    part: int
    doing: Doing


class Beat(NamedTuple):
    """What a rank publishes.

    Attributes:
        number: counter that grows while the process is alive.
        place: how far it has come.
        idle: seconds since it last noted progress.
    """

    number: int
    place: Place
    idle: float


class Watchdog:
    """Monitors this process's run from a thread; does nothing for a single process."""

    def __init__(
        self,
        ranks: Ranks,
        timeout_minutes: float,
        connect: Connect = shared_store,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        """Requires torchrun's environment if there is more than one process.

        Args:
            ranks: this process's place among the others.
            timeout_minutes: after so long without progress, the run has stalled.
            connect: gives the store in which the processes publish.
            end: ends this process, with an exit code.
        """
        self._ranks, self._connect, self._exit = ranks, connect, end
        self._minutes = timeout_minutes
        self._interval = min(_LONGEST_BEAT_SECONDS, timeout_minutes * 60 / 4)
        self._beats = 0
        self._closed = threading.Event()
        self._place, self._since = Place(0, 0, Doing.READING), time.monotonic()
        if ranks.world_size > 1:
            threading.Thread(target=self._watch, name="cp2fast-watchdog", daemon=True).start()

    def note(self, step: int, doing: Doing) -> None:
        """Record what the run is about to do; each call counts as progress."""
        at = self._place
        part = at.part + (doing != at.doing) if step == at.step else 0
        self._place, self._since = Place(step, part, doing), time.monotonic()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        store = self._connect("watchdog", self._ranks, timedelta(seconds=30))
        while not self._closed.wait(self._interval):
            self._publish(store)
            if self._idle > 60 * self._minutes:
                # A store in a process that is frozen never answers; no call to it has a timeout.
                unanswered = threading.Timer(10 * self._interval, self._end_unanswered)
                unanswered.daemon = True
                unanswered.start()
                self._end(store)
                unanswered.cancel()

    @property
    def _idle(self) -> float:
        return time.monotonic() - self._since

    def _publish(self, store: Store) -> None:
        self._beats += 1
        place = " ".join(str(int(number)) for number in self._place)
        store.set(str(self._ranks.rank), f"{self._beats} {place} {self._idle}")

    def _end(self, store: Store) -> None:
        """Watch the other ranks' beats for a while, report the diagnosis, and end this process."""
        before = self._read(store)
        for _ in range(3):
            time.sleep(self._interval)
            self._publish(store)
        after = self._read(store)
        answering = [rank for rank in after if before[rank].number != after[rank].number]
        if self._closed.is_set() or any(after[r].idle < 60 * self._minutes for r in answering):
            return  # The run has ended, or one of them is at work and the others wait for it.
        if store.add("reports", 1) == 1:
            _report(diagnosis(after, answering, self._minutes))
        else:
            time.sleep(self._interval)  # torchrun then ends all: let the one that reports be first
        self._exit(1)

    def _end_unanswered(self) -> None:
        """Report that the store does not answer, and end this process."""
        if not self._closed.is_set():
            _report(f"torchrun, or rank 0 without it, does not answer; {_ending(self._minutes)}")
            self._exit(1)

    def _read(self, store: Store) -> dict[int, Beat]:
        beats = {}
        for rank in range(self._ranks.world_size):
            if store.check([str(rank)]):  # get would wait for one that has never published
                number, step, part, doing, idle = store.get(str(rank)).split()
                place = Place(int(step), int(part), Doing(int(doing)))
                beats[rank] = Beat(int(number), place, float(idle))
            else:
                beats[rank] = Beat(0, Place(0, 0, Doing.READING), 0)
        return beats


def diagnosis(beats: dict[int, Beat], answering: list[int], minutes: float) -> str:
    """One line: which ranks hold up the run, and what to do.

    Args:
        beats: the beats of all ranks.
        answering: ranks whose process still runs.
        minutes: how long the run has been stalled.
    """
    silent = [rank for rank in beats if rank not in answering]
    if silent:
        who, what = silent, "does not answer"
    else:
        least = min(beat.place for beat in beats.values())
        who = [rank for rank in beats if beats[rank].place == least]
        what = f"hangs while {least.doing.name.lower()}"
    names = "rank" if len(who) == 1 else "each of ranks"
    return (
        f"{names} {', '.join(map(str, who))} of {len(beats)} {what} after step "
        f"{min(beats[rank].place.step for rank in who)}; {_ending(minutes)}"
    )


def _ending(minutes: float) -> str:
    return (
        f"no progress for {minutes:g} minutes (train.timeout_minutes), so the run ends here: look "
        "at that machine, then --resume"
    )


def _report(line: str) -> None:
    print(f"cp2fast: {line}", file=sys.stderr, flush=True)
