"""Decoding in other processes: what threads of this one give, and no trouble from how it ends."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cp2fast.data.cache.arena import Arena
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.loading import DecodeSettings
from cp2fast.data.sources.turbo_process import open_turbo_processes
from cp2fast.data.sources.turbo_source import open_turbo
from cp2fast.errors import UserError
from tests.data import image_files
from tests.processes import Process

pytestmark = pytest.mark.slow

COUNT = 24
SIDES = [(40 + 2 * number, 60 + number) for number in range(COUNT)]


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Photos of ever larger sizes; one is a PNG, one is broken in its middle, one is no image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (height, width) in enumerate(SIDES):
        suffix = "png" if number == 4 else "jpg"
        image_files.photo(height, width, number).save(folder / f"{number:02d}.{suffix}")
    whole = (folder / "07.jpg").read_bytes()
    (folder / "07.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "09.jpg").write_bytes(b"garbage")
    return list_images(folder)


def decode(images, run: Path, steps=30, open_=open_turbo_processes, threads=2, arena=None):
    numbers = (np.roll(np.arange(COUNT), step)[:8] for step in range(steps))
    bad = BadImages(run, 1)
    settings = DecodeSettings(seed=3, max_pixels=10**6)
    return bad, open_(images, numbers, settings, bad, threads=threads, arena=arena)


def children() -> list[int]:
    """Decoding processes of this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            status = (folder / "status").read_text()
        except OSError:
            continue
        if b"workers.main" in words and f"PPid:\t{os.getpid()}\n" in status:
            found.append(int(folder.name))
    return found


def test_they_give_the_batches_of_threads_while_all_are_held_and_end_with_them(images, tmp_path):
    bad, batches = decode(images, tmp_path / "a", threads=16)
    first = next(batches)
    assert len(children()) == 2
    for child in children():
        os.kill(child, signal.SIGINT)  # Ctrl-C reaches them too, and is for the parent.
        os.kill(child, signal.SIGTERM)
    ours = [first, *batches]
    assert not children()
    others, expected = decode(images, tmp_path / "b", open_=open_turbo)
    for a, b in zip(ours, expected, strict=True):
        assert a.index.tolist() == b.index.tolist()
        assert all(torch.equal(a.image(i), b.image(i)) for i in range(len(b)))
    assert bad.state_dict() == others.state_dict()
    assert bad.path.read_text() == others.path.read_text()


def test_memory_is_shared_with_the_cache_used_again_and_no_more_of_it_mapped(images, tmp_path):
    sizes = np.array([3 * height * width for height, width in SIDES])
    arena = Arena.new_host(np.where(np.arange(COUNT) % 3 == 0, sizes, 0), shared=True)
    _, batches = decode(images, tmp_path / "a", 60, arena=arena)
    _, expected = decode(images, tmp_path / "b", 60, open_=open_turbo)
    for step, (ours, theirs) in enumerate(zip(batches, expected, strict=True)):
        assert all(torch.equal(ours.image(i), theirs.image(i)) for i in range(len(theirs)))
        if step == 30:
            maps = Path("/proc/self/maps").read_text()
            assert len(re.findall("memfd:cp2fast-batch", maps)) <= 10
    assert arena.holds(np.array([0, 3, 6, 12]))

    full = Arena.new_host(np.where(np.isin(np.arange(COUNT), [7, 9]), 0, sizes), shared=True)
    _, batches = decode(images, tmp_path / "c", 60, arena=full)
    last = list(batches)[-2]
    assert last.pixels.data_ptr() == full.pixels.data_ptr()


def test_a_process_that_dies_is_an_error_in_one_line(images, tmp_path):
    _, batches = decode(images, tmp_path, 10_000)
    next(batches)
    [child] = children()
    os.kill(child, signal.SIGKILL)
    with pytest.raises(UserError, match=r"a decoding process ended .*\(killed by SIGKILL\)"):
        for _ in batches:
            pass
    assert not children()


def test_what_is_raised_in_a_process_is_raised_here(images, tmp_path):
    numbers = iter([np.array([COUNT + 5])])
    with pytest.raises(IndexError):
        next(
            open_turbo_processes(
                images, numbers, DecodeSettings(0, max_pixels=10), BadImages(tmp_path, 1), threads=1
            )
        )


def test_they_end_with_a_parent_that_is_killed(images, tmp_path):
    script = """if True:
        import sys, time
        from pathlib import Path
        from tests.data.sources.test_turbo_process import children, decode
        from cp2fast.data.image_sets.listing import list_images
        _, batches = decode(list_images(Path(sys.argv[1])), Path(sys.argv[2]), 10_000)
        next(batches)
        print(*children(), flush=True)
        time.sleep(600)
    """
    parent = Process(tmp_path / "photos", tmp_path, script=script)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(200):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.05)
    pytest.fail("the decoding process outlived its parent")
