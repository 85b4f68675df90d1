import threading
from collections.abc import Generator

import pytest

from cp2fast.train.prefetch import prefetch


def numbers(count: int, made: list[int], closed: threading.Event) -> Generator[int, None, None]:
    try:
        for i in range(count):
            made.append(i)
            yield i
    finally:
        closed.set()


def test_items_come_in_order_and_the_source_is_closed() -> None:
    closed = threading.Event()
    assert list(prefetch(numbers(100, [], closed), depth=3)) == list(range(100))
    assert closed.is_set()


def test_no_more_than_the_depth_is_made_ahead() -> None:
    made: list[int] = []
    items = prefetch(numbers(100, made, threading.Event()), depth=3)
    assert next(items) == 0
    items.close()
    assert len(made) <= 6  # taken, three waiting, one at the door, one in the making


def test_an_error_arrives_after_the_items_before_it() -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        raise ValueError("broken")

    items = prefetch(failing(), depth=3)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_closing_early_closes_the_source_and_ends_the_thread() -> None:
    closed = threading.Event()
    items = prefetch(numbers(10**9, [], closed), depth=2)
    next(items)
    items.close()
    assert closed.is_set()
    assert not [t for t in threading.enumerate() if t.name == "cp2fast-prefetch"]
