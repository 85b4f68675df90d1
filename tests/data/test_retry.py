"""Faults that pass, of a real one that does not: reading at 0 of a process's memory is EIO."""

import threading
import time
from pathlib import Path

import pytest

from cp2fast.data import retry
from cp2fast.data.image_set import ImageSet


def test_a_disk_that_says_eio_is_asked_again_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr("cp2fast.data.image_set.LOCAL_PATIENCE", 0.01)
    (tmp_path / "broken.jpg").symlink_to("/proc/self/mem")
    before = retry.retries()
    with pytest.raises(OSError, match="Input/output error"):
        ImageSet.of_files([tmp_path / "broken.jpg"]).read(0)
    assert retry.retries() - before >= 3


def test_a_fault_that_passes_leaves_no_trace_but_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.02)
    link = tmp_path / "photo.jpg"
    (tmp_path / "whole").write_bytes(b"a photo")
    link.symlink_to("/proc/self/mem")

    def mend() -> None:
        time.sleep(0.1)
        (tmp_path / "new").symlink_to(tmp_path / "whole")
        (tmp_path / "new").replace(link)

    mending = threading.Thread(target=mend)
    mending.start()
    before = retry.retries()
    assert ImageSet.of_files([link]).read(0) == b"a photo"
    assert retry.retries() > before
    mending.join()


def test_what_will_not_pass_is_not_tried_again(tmp_path: Path) -> None:
    before = retry.retries()
    with pytest.raises(FileNotFoundError):
        ImageSet.of_files([tmp_path / "gone.jpg"]).read(0)
    assert retry.retries() == before


def test_pauses_grow_and_add_up_to_the_patience() -> None:
    pauses = list(retry.pauses(300))
    assert pauses == sorted(pauses)
    assert 300 <= sum(pauses) <= 330
    assert pauses[-1] == 30
