"""Time accounting: every second of a run belongs to one of six accounts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

import torch

Account = Literal["data", "step", "save", "evaluate", "log", "start"]
ACCOUNTS: tuple[Account, ...] = get_args(Account)
"""Waiting for images; training steps; pausing for a checkpoint; evaluations; metrics and pictures;
everything before the first batch."""


class Accounts:
    """Adds up the time since the last lap by account.

    On a GPU it measures the GPU's own time with events on its stream: the host runs ahead, and
    mostly waits for the step that is still being computed. Only ``lap`` waits for the GPU.
    """

    def __init__(self, device: torch.device, began: float) -> None:
        """Start charging the account ``start``.

        Args:
            device: device of the network.
            began: value of ``time.perf_counter`` when the run began.
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
        """Charge ``data`` from now on, but keep charging ``start`` until the first batch."""
        if self._account != "start":
            self.switch("data")

    def switch(self, account: Account) -> None:
        """Charge ``account`` from now on."""
        if not self._marks:  # first mark on a GPU: until now only the host's time counted
            torch.cuda.synchronize(self._device)
            self._seconds["start"] += time.perf_counter() - self._began
        self._account = account
        self._marks.append((self._now(), account))
        self._add_up()

    @contextmanager
    def on(self, account: Account) -> Iterator[None]:
        """Charge ``account`` inside the block, and the previous account after it."""
        before = self._account
        self.switch(account)
        try:
            yield
        finally:
            self.switch(before)

    def lap(self) -> dict[Account, float]:
        """Seconds by account since the previous lap or the start of the run; waits for the GPU."""
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
        """Shares of the whole run up to the last lap."""
        return shares_of(self._totals)

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _add_up(self) -> None:
        """Add the intervals between marks that the GPU has passed; only a few remain pending."""
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
    """Shares of the total; they add up to 1."""
    whole = sum(seconds.values()) or 1.0
    return {account: round(value / whole, 5) for account, value in seconds.items()}
