import itertools
import time

import pytest

from cp2fast.bench.timing import Rate, Stream, measure, ratios


def test_systems_take_turns_and_all_their_work_is_counted() -> None:
    calls: list[str] = []

    def batches(name: str, samples: int):
        while True:
            calls.append(name)
            time.sleep(0.001)
            yield samples

    streams = {"a": Stream(batches("a", 1)), "b": Stream(batches("b", 10))}
    rates = measure(streams, rounds=3, seconds=0.01)
    turns = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    assert turns == ["a", "b"] * 4  # a warm-up, then three rounds
    assert [len(rate.samples_per_second) for rate in rates.values()] == [3, 3]
    assert rates["b"].median > rates["a"].median


def test_every_round_that_is_done_is_told() -> None:
    lines: list[str] = []
    measure({"a": Stream(itertools.repeat(1))}, 2, 0.001, lines.append)
    told = [line.rpartition(",")[0] for line in lines if "done" in line]
    assert told == ["round 1 of 2 done", "round 2 of 2 done"]


def test_what_takes_turns_and_how_long_at_least_is_told_before() -> None:
    lines: list[str] = []
    measure(dict.fromkeys("ab", Stream(itertools.repeat(1))), 3, 0.2, lines.append)
    assert lines[0] == "2 systems and ceilings, 3 x 0.2 s each: at least 1 s"


@pytest.mark.parametrize("batches", [0, 2])
def test_a_stream_that_ends_is_left_out_and_the_others_are_measured(batches: int) -> None:
    streams = {"ends": Stream(iter([1] * batches)), "goes on": Stream(itertools.repeat(1))}
    rates = measure(streams, rounds=3, seconds=0)
    assert {name: len(rate.samples_per_second) for name, rate in rates.items()} == {"goes on": 3}


def test_median_spread_and_ratio() -> None:
    fast, slow = Rate((20.0, 30.0, 10.0)), Rate((10.0, 10.0, 10.0))
    assert fast.median == 20
    assert fast.spread == 1
    assert slow.spread == 0
    assert Rate((10.0,)).spread is None
    assert ratios(fast, slow) == pytest.approx([2, 3, 1])


def test_what_a_stream_made_ahead_is_not_counted() -> None:
    taken: list[str] = []

    def batches(name: str):
        while True:
            taken.append(name)
            time.sleep(0.001)
            yield 5

    streams = {"a": Stream(batches("a"), ahead=3), "b": Stream(batches("b"))}
    rates = measure(streams, rounds=2, seconds=0.0)
    # In the warm-up and in each round those made ahead are taken, then the one that counts.
    assert taken == 3 * ["a", "a", "a", "a", "b"]
    assert max(rates["a"].samples_per_second) <= 5 / 0.001
