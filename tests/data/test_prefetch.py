import threading
import time
from collections.abc import Generator

import pytest

from cp2fast.data.prefetch import keep_ahead, map_ahead, prefetch


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
    beyond = threading.Event()

    def made() -> Generator[int, None, None]:
        for number in range(100):
            if number == 4:  # after the one that is taken and three that wait
                beyond.set()
            yield number

    items = prefetch(made(), depth=3)
    assert next(items) == 0
    assert not beyond.wait(0.3)
    items.close()


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
    assert not [t for t in threading.enumerate() if t.name.startswith("cp2fast-prefetch")]


def test_results_come_in_order_whatever_takes_long() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 * (number % 3 == 0))
        return number * number

    assert list(map_ahead(slow, range(20), threads=4, ahead=6)) == [n * n for n in range(20)]


def test_no_more_is_made_than_was_allowed() -> None:
    beyond = threading.Event()

    def make(number: int) -> int:
        if number == 4:
            beyond.set()
        return number

    results = map_ahead(make, iter(range(100)), threads=2, ahead=3)
    assert next(results) == 0
    assert not beyond.wait(0.3)
    results.close()
    assert not beyond.is_set()


def test_an_error_comes_in_its_place_and_ends_the_threads() -> None:
    def fails_at_three(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    before = threading.active_count()
    seen = []
    with pytest.raises(ValueError, match="three"):
        seen.extend(map_ahead(fails_at_three, range(9), threads=2, ahead=4))
    results = map_ahead(fails_at_three, range(9), threads=2, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert threading.active_count() == before


def test_what_is_handed_on_leaves_the_depth_behind_it_started() -> None:
    started: list[int] = []
    for taken, _ in enumerate(keep_ahead((started.append(n) for n in range(10)), depth=3)):
        assert len(started) == min(10, taken + 4)
    assert list(keep_ahead(iter([]), depth=2)) == []
