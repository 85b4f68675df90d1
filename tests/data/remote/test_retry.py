"""Faults that pass, of a real one that does not: reading at 0 of a process's memory is EIO."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cp2fast.data.decoding.raster import BadImage
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.remote import retry


def test_a_disk_that_says_eio_is_asked_again_until_the_patience_ends(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").symlink_to("/proc/self/mem")
    before = retry.retries()
    with pytest.raises(OSError, match="Input/output error"):
        retry.retrying((tmp_path / "broken.jpg").read_bytes, retry.is_passing, patience=0.5)
    assert retry.retries() - before == len(list(retry.pauses(0.5))) == 2


def test_a_thread_that_is_told_to_give_up_does_so_with_the_disk_s_error(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").symlink_to("/proc/self/mem")
    images, stopping = ImageSet.of_files([tmp_path / "broken.jpg"]), threading.Event()

    def read() -> bytes:
        retry.give_up_when(stopping)
        return images.read(0)

    before = retry.retries()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        while retry.retries() == before:
            time.sleep(0.01)
        stopping.set()
        with pytest.raises(BadImage, match="Input/output error"):
            reading.result()


def test_a_fault_that_passes_leaves_no_trace_but_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "photo.jpg"
    (tmp_path / "whole").write_bytes(b"a photo")
    link.symlink_to("/proc/self/mem")

    def mend(pause: float) -> None:
        (tmp_path / "new").symlink_to(tmp_path / "whole")
        (tmp_path / "new").replace(link)

    monkeypatch.setattr(time, "sleep", mend)  # in the first pause
    before = retry.retries()
    assert ImageSet.of_files([link]).read(0) == b"a photo"
    assert retry.retries() == before + 1


def test_what_will_not_pass_is_not_tried_again(tmp_path: Path) -> None:
    before = retry.retries()
    with pytest.raises(BadImage, match="No such file"):
        ImageSet.of_files([tmp_path / "gone.jpg"]).read(0)
    assert retry.retries() == before


def test_pauses_grow_and_add_up_to_the_patience() -> None:
    pauses = list(retry.pauses(300))
    assert pauses == sorted(pauses)
    assert 300 <= sum(pauses) <= 330
    assert pauses[-1] == 30
