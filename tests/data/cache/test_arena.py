"""Memory of decoded images that processes share, and what one that is killed leaves in it."""

import errno
import mmap
from pathlib import Path

import numpy as np
import pytest

from cp2fast.data.cache.arena import Arena
from tests.processes import Process

pytestmark = pytest.mark.slow

CHILD = """
import sys, time
import numpy as np
from cp2fast.data.cache.arena import Arena

pid, descriptor, count, number, then = map(int, sys.argv[1:])
arena = Arena.attach((pid, descriptor), count)
room = arena.claim(number, 10, 20)
assert room is not None
room[...] = number
if then == 0:
    arena.publish(number, 10, 20)
print("done", flush=True)
time.sleep(then)
"""


def child(arena, number, then):
    return Process(*arena.address, len(arena.size), number, then, script=CHILD)


def test_what_one_process_decodes_the_others_have():
    arena = Arena.new_host(np.full(5, 600, np.int64), shared=True)
    process = child(arena, 3, 0)
    assert process.wait() == 0
    assert (arena.image(3) == 3).all()
    assert arena.image(3).shape == (10, 20, 3)
    assert arena.image(2) is None
    assert not arena.reserve(3, 10, 20)


def test_a_process_killed_while_it_decodes_leaves_no_pixel_behind():
    arena = Arena.new_host(np.full(5, 600, np.int64), shared=True)
    process = child(arena, 3, 60)
    assert process.stdout.readline() == "done\n"
    assert arena.claim(3, 10, 20) is None  # It is decoding.
    process.kill()
    process.wait()
    assert arena.image(3) is None
    assert arena.claim(3, 10, 20) is not None


def test_shared_memory_has_no_name_and_goes_with_its_last_process():
    script = """
import numpy as np, time
from cp2fast.data.cache.arena import Arena
arena = Arena.new_host(np.full(5, 600, np.int64), shared=True)
print(*arena.address, flush=True)
time.sleep(60)
"""
    process = Process(script=script)
    pid, descriptor = map(int, process.stdout.readline().split())
    assert str(Path(f"/proc/{pid}/fd/{descriptor}").readlink()).endswith("(deleted)")
    arena = Arena.attach((pid, descriptor), 5)
    process.kill()
    process.wait()
    arena.claim(3, 10, 20)[...] = 7  # Ours as long as we are there.
    arena.publish(3, 10, 20)
    assert (arena.image(3) == 7).all()
    with pytest.raises(OSError, match="No such file"):
        Arena.attach((pid, descriptor), 5)


def test_eight_processes_together_take_no_more_unchecked_than_one():
    limits = {"reserve": 1 << 60, "check_every": 1 << 20}  # Never is that much memory free.
    first = Arena.new_host(np.full(400, 3 << 14, np.int64), shared=True, **limits)
    arenas = [Arena.attach(first.address, 400, **limits) for _ in range(8)]
    for number in range(400):
        arena = arenas[number % 8]
        room = arena.claim(number, 128, 128)
        if room is not None:
            room[...] = 7
            arena.publish(number, 128, 128)
    there = 400 - len(first.missing(np.arange(400)))
    assert 0 < there * (3 << 14) <= 1 << 20
    assert not any(arena.grows for arena in arenas)


def test_a_kernel_without_huge_pages_has_a_cache_all_the_same(monkeypatch):
    class WithoutHugePages(mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", WithoutHugePages)
    arena = Arena.new_host(np.full(5, 600, np.int64), shared=False)
    arena.claim(3, 10, 20)[...] = 7
    arena.publish(3, 10, 20)
    assert (arena.image(3) == 7).all()
