"""Decoding ahead: order, errors, batches of one size."""

import threading
import time

import pytest
import torch

from cp2fast.finetune.loader import batches_of_one_size, map_ahead


def test_results_come_in_order_whatever_takes_long() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 * (number % 3 == 0))
        return number * number

    assert list(map_ahead(slow, range(20), threads=4, ahead=6)) == [n * n for n in range(20)]


def test_no_more_is_made_than_was_allowed() -> None:
    begun: list[int] = []
    results = map_ahead(lambda n: begun.append(n) or n, iter(range(100)), threads=2, ahead=3)
    assert next(results) == 0
    assert len(begun) <= 4
    results.close()
    assert len(begun) <= 4


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


def test_images_of_one_size_that_follow_each_other_are_a_batch() -> None:
    sizes = [(4, 4), (4, 4), (4, 4), (4, 5), (4, 4)]
    pairs = [(torch.zeros(*size, 3), number) for number, size in enumerate(sizes)]
    batches = [[number for _, number in batch] for batch in batches_of_one_size(pairs, 2)]
    assert batches == [[0, 1], [2], [3], [4]]
