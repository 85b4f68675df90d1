"""Any job in processes of its own: answers in order, with their memory, and what was retried."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cp2fast.buffers import Buffers
from cp2fast.data.remote.retry import count_retry, retries
from cp2fast.data.workers.processes import split_threads, work_in_processes
from cp2fast.data.workers.shared_memory import Lender


@dataclass(frozen=True)
class Squares:
    """Squares numbers; the memory of an even one holds as many ones."""

    def run(self, requests: Iterator[int], memory: Lender) -> Iterator[tuple[int, Tensor | None]]:
        buffers = Buffers(keep=2, allocate=memory.allocate)
        for number in requests:
            count_retry()
            yield number**2, None if number % 2 else buffers.take(number).fill_(1)


@pytest.mark.slow
def test_answers_come_in_order_with_memory_that_stays_while_it_is_held() -> None:
    before = retries()
    numbers = range(1, 21)
    answers = list(work_in_processes(Squares(), numbers, count=2, ahead=2))
    assert [content for content, _ in answers] == [number**2 for number in numbers]
    for number, (_, memory) in zip(numbers, answers, strict=True):
        if number % 2:
            assert memory is None
        else:
            assert torch.equal(memory, torch.ones(number, dtype=torch.uint8))
    assert retries() - before == 20


class Unreadable:
    """What another version of the package may send: it cannot be unpickled."""

    def __reduce__(self):
        return int, ("no number",)


@pytest.mark.slow
def test_a_request_that_a_worker_cannot_read_ends_the_work() -> None:
    with pytest.raises(ValueError, match="no number"):
        list(work_in_processes(Squares(), [1, Unreadable()], count=1, ahead=1))


def test_a_worker_has_about_eight_threads() -> None:
    assert [split_threads(n) for n in (0, 1, 8, 12, 16, 64)] == [
        (1, 1), (1, 1), (1, 8), (2, 6), (2, 8), (8, 8),
    ]  # fmt: skip
