"""Advice about time that is not spent on training steps."""

from __future__ import annotations

from collections.abc import Mapping

from cp2fast.train.accounts import Account

_MUCH = 0.1
"""An account other than the step's is reported above this share of the time."""
_IN_A_ROW = 10
"""Consecutive log rows that must agree before a warning."""

_WHAT: dict[Account, tuple[str, str]] = {
    "data": (
        "spent waiting for images",
        "raise data.workers, or see cp2fast bench loader",
    ),
    "save": ("held up by checkpoints", "raise train.checkpoint_minutes"),
    "evaluate": (
        "spent on evaluations",
        "raise train.evaluate_every, or for the probes of a pretraining train.probe_every",
    ),
    "log": (
        "spent on metrics and pictures",
        "raise train.log_every; pictures come with checkpoints (train.checkpoint_minutes)",
    ),
    "start": (
        "spent before the first step",
        "a longer run pays that once; on a GPU train.compile=off leaves out compiling",
    ),
}


class Advice:
    """Watches the time accounts of a run and warns once about each that takes over a tenth."""

    def __init__(self) -> None:
        self._rows = dict.fromkeys(_WHAT, 0)

    def hear(self, shares: Mapping[Account, float]) -> list[str]:
        """Warnings about accounts that were too large in ten logged steps in a row."""
        warnings = []
        for account in list(self._rows):
            self._rows[account] = self._rows[account] + 1 if shares[account] > _MUCH else 0
            if self._rows[account] == _IN_A_ROW:
                warnings.append(_line(account, shares[account]))
                del self._rows[account]
        return warnings


def of_whole_run(shares: Mapping[Account, float]) -> list[str]:
    """One line for each account that took more than a tenth of a run."""
    return [_line(account, shares[account]) for account in _WHAT if shares[account] > _MUCH]


def _line(account: Account, share: float) -> str:
    what, fix = _WHAT[account]
    return f"{share:.0%} of the time is {what}: {fix}"
