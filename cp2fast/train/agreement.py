"""What the processes of a run agree on, on the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from cp2fast.errors import UserError
from cp2fast.train.distributed import ENDLESS, Ranks, longest_wait

Value = TypeVar("Value")

_CALLS_UNDER_WAY = 2
"""Steps that an exchange of flags may take. Each step updates the weights, which no process can do
without the others, so by then every process has joined the exchange."""


class Agreement:
    """Lets the processes agree on values on the host, without waiting for a GPU.

    All processes must call the same methods in the same order. A single process agrees with
    itself.
    """

    def __init__(self, ranks: Ranks, timeout_minutes: float) -> None:
        """Requires ``process_group`` if there is more than one process."""
        self.ranks = ranks
        self._group: Any = None
        self._watched_group: Any = None
        self._under_way: deque[tuple[torch.Tensor, Any]] = deque()
        if ranks.world_size > 1:
            self._group = dist.new_group(backend="gloo", timeout=longest_wait(timeout_minutes))
            self._watched_group = dist.new_group(backend="gloo", timeout=ENDLESS)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A context in which the processes wait for each other for as long as it takes.

        One of them may be at work for hours. A watchdog must end the run if one hangs.
        """
        before, self._group = self._group, self._watched_group
        try:
            yield
        finally:
            self._group = before

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set on any process."""
        if self._group is None:
            return flags
        counts = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(counts, dist.ReduceOp.MAX, group=self._group)
        return tuple(bool(count) for count in counts.tolist())

    def any_lately(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether any process set it two calls ago; does not wait for the others.

        All processes get the same answer in the same call. A single process gets it at once.
        """
        if self._group is None:
            return flags
        counts = torch.tensor(flags, dtype=torch.uint8)
        work = dist.all_reduce(counts, dist.ReduceOp.MAX, group=self._group, async_op=True)
        self._under_way.append((counts, work))
        if len(self._under_way) <= _CALLS_UNDER_WAY:
            return (False,) * len(flags)
        counts, work = self._under_way.popleft()
        work.wait()
        return tuple(bool(count) for count in counts.tolist())

    def finish(self) -> None:
        """Wait for the exchanges that ``any_lately`` began, and discard their results."""
        while self._under_way:
            self._under_way.popleft()[1].wait()

    def gather(self, value: Value) -> list[Value]:
        """The value of each process, in the order of the ranks."""
        if self._group is None:
            return [value]
        values: list[Value] = [value] * self.ranks.world_size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def of_main(self, make: Callable[[], Value]) -> Value:
        """The value that ``make`` returns in the main process, on every process.

        Raises:
            UserError: in the main process, if ``make`` raises it; the others exit silently.
        """
        made: Value | None = None
        problem: UserError | None = None
        if self.ranks.is_main:
            try:
                made = make()
            except UserError as error:
                problem = error
        value, refused = self.gather((made, problem is not None))[0]
        if problem is not None:
            raise problem
        if refused:
            raise SystemExit(2)
        return cast(Value, value)
