import gc
import itertools
import multiprocessing
import os
import resource
import signal
import time
import weakref
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import fsspec
import numpy as np
import pytest
import torch

from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.loading import DecodeSettings
from cp2fast.data.sources.torch_source import open_torch
from cp2fast.errors import UserError
from tests.data import image_files
from tests.limits import at_most

pytestmark = pytest.mark.slow


@pytest.fixture
def images(tmp_path):
    for number in range(12):
        image_files.photo(30 + number, 40, seed=number).save(tmp_path / f"{number:02d}.jpg")
    return list_images(tmp_path)


def source(images, tmp_path, *, workers, steps=9):
    order = plan(seed=0, count=len(images), batch_size=4, start=0, stop=steps)
    bad = BadImages(tmp_path / "run", max_fraction=0)
    return open_torch(images, order, DecodeSettings(0, 10_000), bad, workers=workers)


def workers_alive():
    return {process.pid for process in multiprocessing.active_children()}


def test_worker_processes_give_what_this_process_gives(images, tmp_path):
    here = list(source(images, tmp_path, workers=0))
    there = list(source(images, tmp_path, workers=2))
    assert len(here) == 9
    for a, b in zip(here, there, strict=True):
        assert a.index.tolist() == b.index.tolist()
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.offset, b.offset)


def test_the_workers_outlive_epochs_and_end_with_the_iterator(images, tmp_path):
    iterator = source(images, tmp_path, workers=2, steps=100)
    next(iterator)
    at_first = workers_alive()
    assert len(at_first) == 2
    for _ in itertools.islice(iterator, 20):  # Three steps an epoch.
        assert workers_alive() == at_first
    iterator.close()
    assert workers_alive() == set()


@pytest.mark.usefixtures("no_handler")
@pytest.mark.parametrize("end", [Generator.close, list])
def test_workers_that_a_pools_thread_started_end_without_an_error(images, tmp_path, end):
    iterator = source(images, tmp_path, workers=2)
    with ThreadPoolExecutor(1) as consumer:
        consumer.submit(next, iterator).result()
        workers = multiprocessing.active_children()
        consumer.submit(end, iterator).result()
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_what_waits_to_be_collected_does_not_go_into_the_workers(images, tmp_path):
    gc.disable()
    try:
        cycle = Cycle()
        cycle.itself = cycle
        collected = weakref.ref(cycle)
        del cycle
        iterator = source(images, tmp_path, workers=1)
        next(iterator)
        assert collected() is None
        iterator.close()
    finally:
        gc.enable()


class Cycle:
    """Stands for a DALI pipeline, whose end hangs in another process than its own."""

    itself: object


def test_the_global_random_numbers_are_left_alone(images, tmp_path):
    before = torch.get_rng_state()
    list(source(images, tmp_path, workers=2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def no_handler():
    """As in a training, which loads in a thread; for the main one torch sets a handler for good."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    yield
    gc.collect()  # An error's frames hold the loader of a dead worker; the handler would raise it.
    signal.signal(signal.SIGCHLD, before)


def test_shared_memory_that_is_full_is_an_error_in_one_line(images, tmp_path):
    """The kernel gives the workers no larger file, in /dev/shm or elsewhere."""
    refused = pytest.raises(UserError, match=r"cannot share its memory \(.*/dev/shm")
    with at_most(4000, resource.RLIMIT_FSIZE), refused as caught:
        next(source(images, tmp_path, workers=2))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_handler")
@pytest.mark.parametrize("moment", ["it decodes", "it hands a batch over"])
def test_a_worker_that_dies_is_an_error_in_one_line(images, tmp_path, moment):
    iterator = source(images, tmp_path, workers=1, steps=1000)
    with ThreadPoolExecutor(1) as consumer:
        consumer.submit(next, iterator).result()
        (worker,) = workers_alive()
        if moment == "it hands a batch over":
            time.sleep(1)  # Batches wait for the consumer,
            os.kill(worker, signal.SIGSTOP)  # who now waits for their memory.
        rest = consumer.submit(list, iterator)
        if moment == "it hands a batch over":
            time.sleep(1)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(UserError, match=r"a decoding process ended.*data.workers") as error:
            rest.result()
    assert len(str(error.value).splitlines()) == 1


class Unreadable(NamedTuple):
    """Numbers of a batch, whose worker raises an error instead of reading them."""

    error: Exception

    def tolist(self):
        raise self.error


@pytest.mark.parametrize("raised", [RuntimeError, ConnectionResetError])
def test_an_error_in_a_living_worker_is_not_taken_for_a_death(images, tmp_path, raised):
    order = iter([Unreadable(raised("of the numbers"))])
    bad = BadImages(tmp_path / "run", max_fraction=0)
    with pytest.raises(raised, match="of the numbers"):
        next(open_torch(images, order, DecodeSettings(0, 10_000), bad, workers=1))


def test_what_a_worker_says_of_a_fault_is_what_this_process_says(tmp_path):
    """A picture that is gone from its server after it was listed."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/gone/0.jpg", image_files.encode(image_files.photo(30, 40), "JPEG"))
    gone = list_images("memory://gone", disk=DiskCache(tmp_path / "disk"))
    memory.rm("/gone/0.jpg")
    said = []
    for workers in (0, 1):
        order, bad = iter([np.array([0])]), BadImages(tmp_path / "run", max_fraction=0)
        batches = open_torch(gone, order, DecodeSettings(0, 10_000), bad, workers=workers)
        with pytest.raises(UserError, match=r"memory://gone/0.jpg is not there") as caught:
            next(batches)
        said.append(str(caught.value))
    assert said[0] == said[1]
