"""Advice about time that is not spent on training steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from cp2fast.train.accounts import Account

Symptom = TypeVar("Symptom", bound=Hashable)

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


class Streaks(Generic[Symptom]):
    """Finds symptoms that ten logged steps in a row show; each is found once."""

    def __init__(self, symptoms: Iterable[Symptom]) -> None:
        self._rows = dict.fromkeys(symptoms, 0)

    def found(self, shows: Callable[[Symptom], bool]) -> list[Symptom]:
        """The symptoms of which this step is the tenth in a row.

        Args:
            shows: whether this step shows a symptom.
        """
        for symptom, rows in self._rows.items():
            self._rows[symptom] = rows + 1 if shows(symptom) else 0
        found = [symptom for symptom, rows in self._rows.items() if rows == _IN_A_ROW]
        for symptom in found:
            del self._rows[symptom]
        return found


class Advice:
    """Watches the time accounts of a run and warns once about each that takes over a tenth."""

    def __init__(self) -> None:
        self._streaks = Streaks(_WHAT)

    def hear(self, shares: Mapping[Account, float]) -> list[str]:
        """Warnings about accounts that were too large in ten logged steps in a row."""
        large = self._streaks.found(lambda account: shares[account] > _MUCH)
        return [_line(account, shares[account]) for account in large]


def of_whole_run(shares: Mapping[Account, float]) -> list[str]:
    """One line for each account that took more than a tenth of a run."""
    return [_line(account, shares[account]) for account in _WHAT if shares[account] > _MUCH]


def _line(account: Account, share: float) -> str:
    what, fix = _WHAT[account]
    return f"{share:.0%} of the time is {what}: {fix}"
