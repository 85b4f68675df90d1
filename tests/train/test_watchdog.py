"""The diagnosis; that a frozen rank really ends a run is in test_ranks.py."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from torch.distributed import HashStore

from cp2fast.train.distributed import Ranks
from cp2fast.train.watchdog import Beat, Doing, Place, Watchdog, diagnosis
from tests.train.clock import Clock

Start = Callable[[int], Watchdog]
MINUTES = 0.01
LONG = 2 * 60 * MINUTES


def beat(step: int, part: int, doing: Doing) -> Beat:
    return Beat(9, Place(step, part, doing), 700.0)


@pytest.fixture
def ended() -> list[int]:
    """Exit codes of the processes that watchdogs have ended; here only their threads stop."""
    return []


@pytest.fixture
def store() -> HashStore:
    return HashStore()


@pytest.fixture
def start(ended: list[int], store: HashStore, clock: Clock) -> Iterator[Start]:
    """Starts the watchdog of one of two ranks, for which time passes by the clock."""
    started, over = list[Watchdog](), threading.Event()

    def end(code: int) -> None:
        ended.append(code)
        over.wait()

    def start_one(rank: int) -> Watchdog:
        started.append(Watchdog(Ranks(rank, 2, rank), MINUTES, lambda *_: store, end))
        return started[-1]

    yield start_one
    for one in started:
        one.close()
    over.set()


def wait_until(found: Callable[[], bool]) -> None:
    for _ in range(2000):
        if found():
            return
        time.sleep(0.01)
    raise AssertionError


def test_a_process_that_no_longer_answers_is_named() -> None:
    beats = {r: beat(40, 1, Doing.COMPUTING) for r in range(4)}
    line = diagnosis(beats, answering=[0, 1, 3], minutes=10)
    assert line.startswith("rank 2 of 4 does not answer after step 40; no progress for 10 min")


def test_a_process_that_is_behind_the_others_is_named_with_what_it_does() -> None:
    beats = {
        0: beat(41, 1, Doing.COMPUTING),
        1: beat(41, 0, Doing.READING),
        2: beat(41, 1, Doing.COMPUTING),
    }
    line = diagnosis(beats, answering=[0, 1, 2], minutes=10)
    assert line.startswith("rank 1 of 3 hangs while reading after step 41")


def test_where_all_stand_alike_all_are_named() -> None:
    beats = {r: beat(7, 0, Doing.SAVING) for r in range(2)}
    line = diagnosis(beats, answering=[0, 1], minutes=0.5)
    assert line.startswith("each of ranks 0, 1 of 2 hangs while saving after step 7")
    assert "\n" not in line


@pytest.mark.parametrize(
    "parts",
    [
        [Doing.SAVING, Doing.READING, Doing.COMPUTING],
        [Doing.EVALUATING, Doing.SAVING],
        [Doing.SAVING, Doing.EVALUATING],  # as after the last step
        [Doing.READING, Doing.COMPUTING, Doing.READING],  # two batches a step
    ],
    ids=lambda parts: "-".join(part.name.lower() for part in parts),
)
def test_of_two_in_one_step_the_one_in_the_earlier_part_is_named(
    parts: list[Doing],
    start: Start,
    clock: Clock,
    ended: list[int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    ranks = [start(0), start(1)]
    for part in parts:
        ranks[1].note(500, part)
    ranks[0].note(500, parts[0])
    clock.now = LONG
    wait_until(lambda: len(ended) == 2)
    [line] = capfd.readouterr().err.splitlines()
    what = parts[0].name.lower()
    assert line.startswith(f"cp2fast: rank 0 of 2 hangs while {what} after step 500")


def test_no_run_is_ended_while_a_rank_is_at_work_and_the_other_waits(
    start: Start,
    store: HashStore,
    clock: Clock,
    ended: list[int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    at_work, waiting = start(0), start(1)
    waiting.note(7, Doing.EVALUATING)
    clock.now = LONG
    at_work.note(7, Doing.EVALUATING)
    # With four beats for each look at the other, the one that waits has looked more than once.
    wait_until(lambda: store.check(["1"]) and int(store.get("1").split()[0]) > 10)
    assert not ended
    clock.now = 2 * LONG
    wait_until(lambda: len(ended) == 2)
    assert "each of ranks 0, 1 of 2 hangs while evaluating" in capfd.readouterr().err


def test_a_single_process_is_not_watched() -> None:
    before = threading.active_count()
    Watchdog(Ranks(0, 1, 0), timeout_minutes=1e-9).close()
    assert threading.active_count() == before
