"""What is cached, given what there is and the room for it."""

import numpy as np
import pytest
import torch

from cp2fast.data.cache.choice import Room, choose_cache
from cp2fast.data.cache.sizes import Sizes
from cp2fast.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SIZE = np.array([10, 20, 0, 30, 40])  # the third is bad
ORDER = np.array([4, 0, 1, 2, 3])


def cached(asked, device, host, gpu, epochs=9):
    def sizes(budget):
        kept = np.zeros_like(SIZE)
        for number in ORDER:
            if kept.sum() + SIZE[number] > budget:
                return Sizes(kept, complete=False)
            kept[number] = SIZE[number]
        return Sizes(kept, complete=True)

    room = Room(host, gpu)
    chosen = choose_cache(asked, device, len(SIZE), epochs, lambda: room, ORDER, sizes)
    return chosen.where, None if chosen.size is None else chosen.size.tolist(), chosen.line


@pytest.mark.parametrize(
    ("asked", "device", "host", "gpu", "where", "fit"),
    [
        ("auto", CPU, 100, 0, "host", 5),
        ("auto", CPU, 60, 0, "host", 2),
        ("auto", CPU, 0, 0, "off", 0),
        ("auto", GPU, 100, 100, "gpu", 5),
        ("auto", GPU, 100, 99, "host", 5),
        ("auto", GPU, 60, 99, "host", 2),
        ("auto", GPU, 0, 99, "off", 0),
        ("host", GPU, 100, 0, "host", 5),
        ("gpu", GPU, 0, 100, "gpu", 5),
        ("off", GPU, 100, 100, "off", None),
    ],
)
def test_a_gpu_caches_all_or_nothing_and_a_host_what_fits(asked, device, host, gpu, where, fit):
    found, size, line = cached(asked, device, host, gpu)
    assert found == where
    if where == "off":
        assert line == ("" if asked == "off" else "cache: off, 0 of 5 images fit")
    else:
        assert size == [SIZE[number] if number in ORDER[:fit] else 0 for number in range(5)]
        assert ("on the GPU" if where == "gpu" else "in host memory") in line
        assert ("2 of 5 images" in line) == (fit == 2)


def test_auto_caches_nothing_that_is_used_once():
    assert cached("auto", CPU, 100, 0, epochs=1) == ("off", None, "")
    assert cached("host", CPU, 100, 0, epochs=1)[0] == "host"


@pytest.mark.parametrize(
    ("asked", "fit", "where"), [("auto", 1, "off"), ("auto", 2, "host"), ("host", 1, "host")]
)
def test_auto_caches_nothing_where_less_than_two_percent_of_the_images_fit(asked, fit, where):
    count, size = 100, 10
    room, sizes = Room(fit * size, 0), Sizes(np.full(count, size), complete=True)
    given = (asked, CPU, count, 9, lambda: room, np.arange(count), lambda budget: sizes)
    assert choose_cache(*given).where == where


def test_a_cache_on_a_gpu_that_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"data.cache=gpu needs a GPU.*data.cache=host"):
        cached("gpu", CPU, 100, 0)
    with pytest.raises(UserError, match=r"the whole data set or none.*data.max_side"):
        cached("gpu", GPU, 100, 99)
