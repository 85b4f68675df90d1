"""The diagnosis; that a frozen rank really ends a run is in test_ranks.py."""

import threading

from cp2fast.train.distributed import Ranks
from cp2fast.train.watchdog import Beat, Doing, Watchdog, diagnosis


def test_a_process_that_no_longer_answers_is_named() -> None:
    beats = {r: Beat(9, 40, Doing.COMPUTING) for r in range(4)}
    line = diagnosis(beats, answering=[0, 1, 3], minutes=10)
    assert line.startswith("rank 2 of 4 does not answer after step 40; no progress for 10 min")


def test_a_process_that_is_behind_the_others_is_named_with_what_it_does() -> None:
    beats = {
        0: Beat(9, 41, Doing.COMPUTING),
        1: Beat(9, 41, Doing.READING),
        2: Beat(9, 41, Doing.COMPUTING),
    }
    line = diagnosis(beats, answering=[0, 1, 2], minutes=10)
    assert line.startswith("rank 1 of 3 hangs while reading after step 41")


def test_where_all_stand_alike_all_are_named() -> None:
    beats = {r: Beat(9, 7, Doing.SAVING) for r in range(2)}
    line = diagnosis(beats, answering=[0, 1], minutes=0.5)
    assert line.startswith("each of ranks 0, 1 of 2 hangs while saving after step 7")
    assert "\n" not in line


def test_a_single_process_is_not_watched() -> None:
    before = threading.active_count()
    Watchdog(Ranks(0, 1, 0), timeout_minutes=1e-9).close()
    assert threading.active_count() == before
