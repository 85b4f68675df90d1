"""Random numbers are Philox4x32-10, uniform, and a pure function of their arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cp2fast.philox import Stream, integers, permutation, philox, uniform, words

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_known_answers_of_random123(counter, key, expected):
    assert tuple(philox(key, np.array(counter, np.uint32))) == expected


def test_arguments_fill_the_counter():
    index, block, epoch, seed = 0x5678_9ABC_DEF0, 0x1234, 7, 0xFEDC_BA98_7654_3210
    expected = philox(
        (0x7654_3210, 0xFEDC_BA98),
        np.array([0x9ABC_DEF0, 0x1234_5678, epoch, Stream.PASTE], np.uint32),
    )
    np.testing.assert_array_equal(words(seed, Stream.PASTE, epoch, index, block), expected)


@given(
    st.integers(-(2**63), 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**48 - 1), min_size=1, max_size=8),
)
def test_a_number_does_not_depend_on_its_neighbours(seed, epoch, index):
    together = words(seed, Stream.VIEW, epoch, index)
    alone = [words(seed, Stream.VIEW, epoch, i) for i in index]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_every_argument_changes_the_numbers():
    calls = [
        (0, Stream.VIEW, 0, 0, 0),
        (1, Stream.VIEW, 0, 0, 0),
        (1 << 32, Stream.VIEW, 0, 0, 0),
        (0, Stream.PASTE, 0, 0, 0),
        (0, Stream.VIEW, 1, 0, 0),
        (0, Stream.VIEW, 0, 1, 0),
        (0, Stream.VIEW, 0, 1 << 32, 0),
        (0, Stream.VIEW, 0, 0, 1),
    ]
    assert len({tuple(words(*call).tolist()) for call in calls}) == len(calls)


def test_arguments_broadcast():
    index, block = np.arange(3)[:, None], np.arange(5)
    numbers = words(0, Stream.VIEW, 0, index, block)
    assert numbers.shape == (3, 5, 4)
    np.testing.assert_array_equal(numbers[2, 4], words(0, Stream.VIEW, 0, 2, 4))


def test_uniform_numbers_fill_the_unit_interval_evenly():
    numbers = uniform(0, Stream.VIEW, 0, np.arange(25_000)).ravel()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    chi_square = np.sum((counts - 1000.0) ** 2 / 1000)
    assert chi_square < 149  # the 99.9 % point of 99 degrees of freedom


def test_neighbouring_words_are_uncorrelated():
    numbers = uniform(0, Stream.VIEW, 0, np.arange(20_000))
    correlation = np.corrcoef(np.concatenate([numbers[:-1], numbers[1:]], axis=1).T)
    assert np.abs(correlation - np.eye(8)).max() < 4.5 / np.sqrt(20_000)


@given(st.integers(1, 2**31), st.integers(0, 2**20))
def test_integers_are_below_count(count, index):
    numbers = integers(0, Stream.BACKGROUND, 0, np.arange(index, index + 50), count)
    assert numbers.min() >= 0
    assert numbers.max() < count


@given(st.integers(0, 300), st.integers(0, 1000))
def test_permutation_holds_every_number_once(count, epoch):
    assert sorted(permutation(0, Stream.ORDER, epoch, count)) == list(range(count))


def test_permutations_of_three_are_equally_likely():
    orders = [tuple(permutation(0, Stream.ORDER, epoch, 3)) for epoch in range(3000)]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 6
    assert sum((count - 500) ** 2 / 500 for count in counts) < 20.5  # 99.9 %, 5 degrees
