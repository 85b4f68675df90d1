"""Prefetching: start work before its result is needed.

Everything that reads, decodes or composes ahead uses ``keep_ahead``. The caller decides what is
started and where it runs: one task of a pool, many of them, or a whole batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def keep_ahead(started: Iterable[Item], depth: int) -> Iterator[Item]:
    """The same items in order; each is yielded after ``depth`` more have been started.

    Taking an item from ``started`` starts its work.
    """
    waiting: deque[Item] = deque()
    for item in started:
        waiting.append(item)
        if len(waiting) > depth:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    name: str = "cp2fast-decode",
) -> Generator[Result, None, None]:
    """``map`` in order, with up to ``ahead`` results computed in ``threads`` threads in advance.

    ``items`` are taken in the consumer's thread. An exception of ``function`` is raised in place of
    its result. Closing the iterator ends the threads, which are called ``name``.
    """
    pool = ThreadPoolExecutor(threads, name)
    try:
        futures: Iterator[Future[Result]] = (pool.submit(function, item) for item in items)
        for future in keep_ahead(futures, ahead):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def prefetch(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """Yield from ``items``, which runs in a thread, up to ``depth`` items ahead of the consumer.

    An exception in ``items`` is raised after the items before it. Closing this iterator
    closes ``items`` and ends the thread.
    """
    end, name = object(), "cp2fast-prefetch"
    made = map_ahead(lambda it: next(it, end), repeat(items), threads=1, ahead=depth, name=name)
    with closing(items), closing(made):
        for item in made:
            if item is end:
                return
            yield item  # type: ignore[misc]  # the end is handled above
