import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cp2fast import philox
from cp2fast.data.order import (
    CHUNK,
    CHUNKS_MIXED,
    Windows,
    backgrounds,
    epoch_order,
    plan,
    steps_per_epoch,
    substitute,
)
from cp2fast.errors import UserError
from cp2fast.philox import Stream

sizes = st.integers(1, 200)
seeds = st.integers(0, 2**64 - 1)


@given(seed=seeds, count=sizes, batch_size=st.integers(1, 16), world_size=st.integers(1, 4))
def test_the_ranks_share_out_each_slice_of_the_epochs_permutation(
    seed, count, batch_size, world_size
):
    assume(count >= batch_size * world_size)
    steps = steps_per_epoch(count, batch_size * world_size)
    ranks = [
        np.stack(
            list(
                plan(
                    seed=seed,
                    count=count,
                    batch_size=batch_size,
                    start=0,
                    stop=2 * steps,
                    rank=rank,
                    world_size=world_size,
                )
            )
        )
        for rank in range(world_size)
    ]
    together = np.stack(ranks, axis=1).reshape(2, -1)
    for epoch in (0, 1):
        permutation = philox.permutation(seed, Stream.ORDER, epoch, count)
        assert together[epoch].tolist() == permutation[: together.shape[1]].tolist()
        assert len(set(together[epoch])) == steps * batch_size * world_size


@given(seed=seeds, start=st.integers(0, 30), independent=st.booleans())
def test_a_restart_goes_on_with_the_same_images(seed, start, independent):
    arguments = {"seed": seed, "count": 23, "batch_size": 3, "rank": 1, "world_size": 2}
    whole = plan(start=0, stop=33, independent=independent, **arguments)
    rest = plan(start=start, stop=33, independent=independent, **arguments)
    for expected, step in zip(itertools.islice(whole, start, None), rest, strict=True):
        assert expected.tolist() == step.tolist()


@given(seed=seeds, epoch=st.integers(0, 1000), count=st.integers(3, 50))
def test_backgrounds_are_two_other_images(seed, epoch, count):
    foreground = np.arange(count)
    query, key = backgrounds(seed, epoch, foreground, count)
    for a, b in itertools.combinations((foreground, query, key), 2):
        assert not np.any(a == b)
    assert np.all((query >= 0) & (query < count) & (key >= 0) & (key < count))


def test_backgrounds_and_places_are_uniform():
    count, epochs = 6, 3000
    places = np.zeros((count, count))
    pairs = np.zeros((count, count))
    for epoch in range(epochs):
        (numbers,) = plan(
            seed=5, count=count, batch_size=count, start=epoch, stop=epoch + 1, independent=True
        )
        foreground, query, key = numbers.reshape(3, count)
        places[np.arange(count), foreground] += 1
        pairs[query[foreground == 2], key[foreground == 2]] += 1
    # Chi-squared with 25 and 19 degrees of freedom; 60 is beyond one in ten thousand.
    expected = epochs / count
    assert ((places - expected) ** 2 / expected).sum() < 60
    possible = [(q, k) for q, k in itertools.permutations(range(count), 2) if 2 not in (q, k)]
    seen = np.array([pairs[pair] for pair in possible])
    expected = epochs / len(possible)
    assert seen.sum() == epochs
    assert ((seen - expected) ** 2 / expected).sum() < 60


def test_independent_backgrounds_follow_the_foregrounds():
    arguments = {"seed": 1, "count": 40, "batch_size": 4, "start": 3, "stop": 12}
    alone = plan(**arguments)
    with_backgrounds = plan(**arguments, independent=True)
    for foreground, numbers in zip(alone, with_backgrounds, strict=True):
        assert numbers.shape == (12,)
        assert numbers[:4].tolist() == foreground.tolist()


@settings(max_examples=20)
@given(seed=seeds, epoch=st.integers(0, 1000), count=st.integers(1, 30_000))
def test_every_order_of_an_epoch_has_each_image_once(seed, epoch, count):
    for order in ("random", "quasi_random", "sequential"):
        assert np.array_equal(np.sort(epoch_order(order, seed, epoch, count)), np.arange(count))
    assert np.array_equal(epoch_order("sequential", seed, epoch, count), np.arange(count))


def test_a_quasi_random_order_mixes_the_images_of_a_few_chunks_at_a_time():
    mixed = CHUNK * CHUNKS_MIXED
    order = epoch_order("quasi_random", 5, 2, 4 * mixed)
    for part in order.reshape(4, mixed):
        chunks, images = np.unique(part // CHUNK, return_counts=True)
        assert len(chunks) == CHUNKS_MIXED
        assert (images == CHUNK).all()
        assert np.abs(np.diff(chunks)).max() > 1  # Not neighbouring ones,
        assert len(np.unique(part[:1000] // CHUNK)) == CHUNKS_MIXED  # and from all of them at once.
    others = [epoch_order("quasi_random", *key, 4 * mixed) for key in ((5, 3), (6, 2))]
    assert all((order == other).mean() < 0.01 for other in others)


def test_a_plan_follows_the_order_asked_for_whatever_its_start():
    arguments = {"seed": 1, "count": 2000, "batch_size": 100, "world_size": 2, "rank": 1}
    for order in ("random", "quasi_random", "sequential"):
        whole = np.stack(list(plan(start=0, stop=20, order=order, **arguments)))
        rest = np.stack(list(plan(start=13, stop=20, order=order, **arguments)))
        assert np.array_equal(whole[13:], rest)
        epochs = [epoch_order(order, 1, epoch, 2000).reshape(10, 2, 100)[:, 1] for epoch in (0, 1)]
        assert np.array_equal(whole, np.concatenate(epochs))


def test_epochs_and_seeds_differ():
    def first(seed, step):
        (numbers,) = plan(seed=seed, count=50, batch_size=50, start=step, stop=step + 1)
        return numbers.tolist()

    orders = [first(0, 0), first(0, 1), first(1, 0)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@given(seed=seeds, count=st.integers(2, 40), data=st.data())
def test_a_substitute_is_another_image(seed, count, data):
    index = data.draw(st.integers(0, count - 1))
    chosen = {substitute(seed, index, attempt, count) for attempt in range(200)}
    assert index not in chosen
    assert chosen <= set(range(count))
    assert count > 10 or len(chosen) == count - 1


def test_too_few_images_are_an_error():
    with pytest.raises(UserError, match=r"5 images do not fill one step of 8.*data.batch_size"):
        plan(seed=0, count=5, batch_size=4, world_size=2, start=0, stop=1)
    with pytest.raises(UserError, match="at least 3 images"):
        plan(seed=0, count=2, batch_size=2, start=0, stop=1, independent=True)
    with pytest.raises(ValueError, match="rank"):
        plan(seed=0, count=5, batch_size=1, rank=2, world_size=2, start=0, stop=1)


SHARDS, WIDTH = 10, 3
SHARD = np.repeat(np.arange(SHARDS), [7, 30, 11, 20, 1, 25, 9, 16, 22, 19])


def windowed(world_size: int, start: int = 0, width: int = WIDTH) -> list[list[np.ndarray]]:
    """What each of so many processes decodes of 24 samples a step, from ``start`` on."""
    return [
        list(
            plan(
                seed=3,
                count=len(SHARD),
                batch_size=24 // world_size,
                start=start,
                stop=12,
                rank=rank,
                world_size=world_size,
                windows=Windows(SHARD, width),
            )
        )
        for rank in range(world_size)
    ]


def test_a_window_mixes_a_few_shards_and_no_others() -> None:
    order, place = Windows(SHARD, WIDTH).epoch_order(seed=3, epoch=0)
    assert sorted(order) == list(range(len(SHARD)))
    seen = [place[number] // WIDTH for number in order]
    assert seen == sorted(seen)
    first = SHARD[order[: seen.count(0)]]
    assert len(set(first)) == WIDTH
    assert np.any(np.diff(first) < 0)
    assert np.any(np.diff(first) > 0)
    assert not np.array_equal(order, Windows(SHARD, WIDTH).epoch_order(3, 1)[0])


def test_windows_go_on_from_any_step_and_do_not_depend_on_the_processes() -> None:
    [alone] = windowed(1)
    assert all(map(np.array_equal, windowed(1, start=5)[0], alone[5:]))
    for world_size in (2, 4):
        joined = [np.concatenate(parts) for parts in zip(*windowed(world_size), strict=True)]
        assert all(map(np.array_equal, joined, alone))


def test_each_process_reads_its_share_of_a_window_and_little_else() -> None:
    """Of shards of one size: a quarter of each window, and what the edges share."""
    shard = np.repeat(np.arange(64), 100)
    steps = [
        list(
            plan(
                seed=0,
                count=len(shard),
                batch_size=64,
                start=0,
                stop=6,  # of the 6.25 that the first window fills
                rank=rank,
                world_size=4,
                windows=Windows(shard, 16),
            )
        )
        for rank in range(4)
    ]
    read = [len(set(shard[np.concatenate(own)])) for own in steps]
    assert max(read) <= 7
    assert sum(read) >= 16


def test_a_window_of_all_shards_is_the_order_without_windows() -> None:
    plain = plan(seed=3, count=len(SHARD), batch_size=24, start=0, stop=12)
    assert all(map(np.array_equal, windowed(1, width=SHARDS)[0], plain))
