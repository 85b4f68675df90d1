"""The outcome of a single check."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cp2fast.errors import UserError

Status = Literal["ok", "missing", "broken", "advice"]
"""Works; not present; present but fails; works, but a setting would help."""


class Missing(Exception):  # noqa: N818
    """The thing to test is not present: one line that says so, and the command that installs it."""

    def __init__(self, detail: str, fix: str | None = None) -> None:
        super().__init__(detail)
        self.fix = fix


@dataclass(frozen=True)
class Check:
    """The outcome of one test.

    Attributes:
        name: what was tested.
        detail: one line.
        fix: exact command to run or setting to change, if one helps.
        needed: whether pretraining with default settings depends on it.
    """

    name: str
    status: Status
    detail: str
    fix: str | None = None
    needed: bool = False
    seconds: float = 0.0

    @property
    def fails(self) -> bool:
        """Whether pretraining with default settings cannot work because of it."""
        return self.needed and self.status in ("missing", "broken")


def perform(
    name: str, test: Callable[[], str], *, needed: bool = False, fix: str | None = None
) -> Check:
    """Run one test, which returns one line if it passes.

    It raises Missing if the thing is not present, and any other exception if it fails, which
    ``fix`` helps against.
    """
    began = time.perf_counter()
    status: Status = "ok"
    try:
        detail, remedy = test(), None
    except Missing as missing:
        status, detail, remedy = "missing", str(missing), missing.fix
    except UserError as error:
        status, detail, remedy = "broken", str(error), fix
    except Exception as error:  # it may be broken in any way
        lines = str(error).strip().splitlines() or [""]
        status, detail, remedy = "broken", f"{type(error).__name__}: {lines[0]}", fix
    return Check(name, status, detail, remedy, needed, time.perf_counter() - began)
