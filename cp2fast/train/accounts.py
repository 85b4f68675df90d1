"""Where the time of a run goes: every second belongs to one of six accounts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

import torch

Account = Literal["data", "step", "save", "evaluate", "log", "start"]
ACCOUNTS: tuple[Account, ...] = get_args(Account)
"""Waiting for images; the network; holding still for a checkpoint; evaluations; metrics and
pictures; everything up to the first batch."""


class Accounts:
    """Adds up the time since the last lap, account by account.

    On a GPU it is the GPU's own time, by events on its stream: the host runs ahead, and what it
    waits for is mostly the step that is still being computed. Nothing waits for the GPU but a lap.
    """

    def __init__(self, device: torch.device, began: float) -> None:
        """Begin with ``start``.

        Args:
            device: of the network.
            began: when the run did, of ``time.perf_counter``.
        """
        self._device = device
        self._began = began
        self._seconds = dict.fromkeys(ACCOUNTS, 0.0)
        self._totals = dict.fromkeys(ACCOUNTS, 0.0)
        self._marks: deque[tuple[float | torch.cuda.Event, Account]] = deque()
        self._account: Account = "start"
        if device.type != "cuda":
            self._marks.append((began, "start"))

    def wait_for_data(self) -> None:
        """Let ``data`` pay from now on, for the run's first batch still ``start``."""
        if self._account != "start":
            self.switch("data")

    def switch(self, account: Account) -> None:
        """Let ``account`` pay from now on."""
        if not self._marks:  # the first on a GPU: until now there was only the host's time
            torch.cuda.synchronize(self._device)
            self._seconds["start"] += time.perf_counter() - self._began
        self._account = account
        self._marks.append((self._now(), account))
        self._add_up()

    @contextmanager
    def on(self, account: Account) -> Iterator[None]:
        """Let ``account`` pay for what is inside, then the one that paid before."""
        before = self._account
        self.switch(account)
        try:
            yield
        finally:
            self.switch(before)

    def lap(self) -> dict[Account, float]:
        """Seconds since the lap before, or the run's begin, by account; waits for the GPU."""
        self.switch(self._account)
        end, _ = self._marks[-1]
        if isinstance(end, torch.cuda.Event):
            end.synchronize()
        self._add_up()
        spent = self._seconds
        self._seconds = dict.fromkeys(ACCOUNTS, 0.0)
        for account, seconds in spent.items():
            self._totals[account] += seconds
        return spent

    def shares(self) -> dict[Account, float]:
        """Of the whole run so far, as of the last lap."""
        return shares_of(self._totals)

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _add_up(self) -> None:
        """Book what lies between marks that are in the past; few are not, however long a lap is."""
        while len(self._marks) > 1:
            (begin, account), (end, _) = self._marks[0], self._marks[1]
            if isinstance(begin, float) and isinstance(end, float):
                seconds = end - begin
            elif end.query():  # type: ignore[union-attr]
                seconds = begin.elapsed_time(end) / 1e3  # type: ignore[union-attr, arg-type]
            else:
                return
            self._seconds[account] += seconds
            self._marks.popleft()


def shares_of(seconds: Mapping[Account, float]) -> dict[Account, float]:
    """Of their sum; they add up to 1."""
    whole = sum(seconds.values()) or 1.0
    return {account: round(value / whole, 5) for account, value in seconds.items()}
