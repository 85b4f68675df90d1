"""Processes that read and decode for a thread that launches GPU kernels.

    requests -> one worker after the other -> memory shared with this process -> answers, in order

Decoding threads take Python's lock about nine times per image. If they share a process with the
thread that launches GPU kernels, each launch has to wait for them: a ResNet-18 at 128 pixels ran at
0.29 of its speed on an H100 with 16 cores. In their own processes they delay nobody, and their
lower priority leaves a core to the training whenever it needs one.

The processes are new programs (``main.py``) rather than forks, because this process has
threads and may use a GPU. Pixels are passed in shared memory; only small numbers go through the
pipe.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from torch import Tensor

from cp2fast.data.prefetch import keep_ahead
from cp2fast.data.remote.retry import count_retry
from cp2fast.data.workers.main import START, Answer, Job
from cp2fast.data.workers.shared_memory import Borrower
from cp2fast.errors import UserError

Request = TypeVar("Request")
Content = TypeVar("Content")

_THREADS_PER_PROCESS = 8
"""More threads would wait for each other's lock."""
_FOR_THE_PARENT = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Signals that may reach the whole process group; the parent ends its workers."""


def split_threads(threads: int) -> tuple[int, int]:
    """How many workers to start for this many threads, and the threads of each."""
    count = max(1, round(threads / _THREADS_PER_PROCESS))
    return count, max(1, threads // count)


def work_in_processes(
    job: Job[Request, Content],
    requests: Iterable[Request],
    *,
    count: int,
    ahead: int,
    inherited: Sequence[int] = (),
    pinned: bool = False,
) -> Generator[tuple[Content, Tensor | None], None, None]:
    """The answers to the requests, in their order. Closing the generator ends the workers.

    Args:
        job: what each worker runs; pickled.
        requests: pickled and distributed over the workers in turn.
        count: number of workers.
        ahead: requests per worker that are under way while the consumer asks for none; more than
            the job takes before it answers the first.
        inherited: file descriptors that the workers have under the same numbers.
        pinned: whether to pin the memory of the answers, for copies to a GPU.

    Yields:
        The content, and its memory, if any: uint8 ``[N]``, valid until the last tensor that refers
        to it is gone.

    Raises:
        UserError: a worker died, or raised one; any other error of a worker is raised here too.
    """
    with ExitStack() as stack:
        workers: list[_Worker[Request, Content]] = []
        for _ in range(count):
            workers.append(_Worker(job, inherited, pinned))
            stack.callback(workers[-1].close)

        def asked() -> Iterator[Callable[[], tuple[Content, Tensor | None]]]:
            for request, worker in zip(requests, itertools.cycle(workers), strict=False):
                worker.ask(request)
                yield worker.answer
            for worker in workers:
                worker.finish()

        for answer in keep_ahead(asked(), ahead * count):
            yield answer()


class _Worker(Generic[Request, Content]):
    """One worker, as its parent sees it."""

    def __init__(self, job: Job[Request, Content], inherited: Sequence[int], pinned: bool) -> None:
        ours, theirs = socket.socketpair()
        words = [sys.executable, "-P", "-c", START, str(theirs.fileno())]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        }
        # Signals that are blocked here are blocked in the new process from its first instruction.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
        try:
            with theirs:
                descriptors = [theirs.fileno(), *inherited]
                self._process = subprocess.Popen(words, pass_fds=descriptors, env=environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._connection = Connection(ours.detach())
        self._memory, self._retries = Borrower(pinned), 0
        self._send(job)

    def ask(self, request: Request) -> None:
        """Send a request; answers come in the same order."""
        self._send((request, self._memory.give_back()))

    def finish(self) -> None:
        """Tell the worker that no more requests will follow."""
        self._send(None)

    def answer(self) -> tuple[Content, Tensor | None]:
        """The next answer."""
        try:
            answer: Answer | Exception = self._connection.recv()
            if isinstance(answer, Exception):
                raise answer
            if answer.is_new and answer.loan is not None:
                self._memory.map(answer.loan.key, reduction.recv_handle(self._connection))
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        count_retry(answer.retries - self._retries)
        loan, self._retries = answer.loan, answer.retries
        return answer.content, None if loan is None else self._memory.borrow(loan)

    def close(self) -> None:
        """End the worker immediately."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except ConnectionError as error:
            raise self._death() from error

    def _death(self) -> UserError:
        code = self._process.wait()
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return UserError(
            f"a decoding process ended unexpectedly ({reason}): most often memory ran out; set "
            "data.workers lower"
        )
