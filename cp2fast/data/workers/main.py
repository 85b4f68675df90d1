"""The program of a worker process (see ``processes.py``): a job, its requests, and its answers."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

from cp2fast.data.remote.retry import retries
from cp2fast.data.workers.shared_memory import Lender, Loan

Request = TypeVar("Request", contravariant=True)
Content = TypeVar("Content", covariant=True)

START = "from cp2fast.data.workers.main import main; main()"
"""The program, for ``python -c``; its argument is the descriptor of the pipe to its parent."""
_NICE = 5
_LOOK_SECONDS = 2.0
"""Interval between checks that the parent is still alive, in case the pipe is never closed."""


class Job(Protocol[Request, Content]):
    """What a worker does; can be pickled, as can requests and contents."""

    def run(
        self, requests: Iterator[Request], memory: Lender
    ) -> Iterator[tuple[Content, Tensor | None]]:
        """Answer the requests, which may be taken in advance, in order.

        Yields:
            The content of an answer, and the beginning of a block of ``memory`` that belongs to it,
            if any.
        """


class Answer(NamedTuple):
    """The answer to a request."""

    content: Any
    """What the job yielded."""
    loan: Loan | None
    """The memory that belongs to it."""
    is_new: bool
    """Whether the descriptor of that memory follows."""
    retries: int
    """Retries in this process so far."""


def main() -> None:
    """Receive the job, and answer its requests until the parent ends this process."""
    os.nice(_NICE)
    connection = Connection(int(sys.argv[1]))
    asked: queue.Queue[bytes] = queue.Queue()
    job: Job[Any, Any] = connection.recv()
    threading.Thread(target=_listen, args=(connection, asked), daemon=True).start()
    memory = Lender()
    try:
        for content, part in job.run(_requests(asked, memory), memory):
            _send(connection, content, part, memory)
    except BrokenPipeError:
        return
    except Exception as error:  # raised by the parent
        connection.send(error)
    threading.Event().wait()  # Stay until the parent ends this: it may still map our memory.


def _listen(connection: Connection, asked: queue.Queue[bytes]) -> None:
    """Receive requests at once, so that sending never blocks the parent; exit with the parent."""
    parent = os.getppid()
    try:
        while True:
            while not connection.poll(_LOOK_SECONDS):
                if os.getppid() != parent:
                    os._exit(1)
            asked.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _requests(asked: queue.Queue[bytes], memory: Lender) -> Iterator[Any]:
    """The requests; each comes with the keys of memory that the parent no longer uses."""
    while (message := reduction.ForkingPickler.loads(asked.get())) is not None:
        request, unused = message
        memory.take_back(unused)
        yield request


def _send(connection: Connection, content: Any, part: Tensor | None, memory: Lender) -> None:
    loan, descriptor = (None, None) if part is None else memory.lend(part)
    connection.send(Answer(content, loan, descriptor is not None, retries()))
    if descriptor is not None:
        reduction.send_handle(connection, descriptor, os.getppid())
        os.close(descriptor)
