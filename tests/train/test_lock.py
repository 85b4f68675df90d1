import json
import os
import resource
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cp2fast.errors import UserError
from cp2fast.run_folder import RunFolder
from cp2fast.train.lock import locked, refuse_running
from tests.limits import at_most


def test_the_lock_names_its_process_and_goes_with_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with locked(folder):
        held = json.loads(folder.lock.read_text())
        assert (held["host"], held["pid"]) == (socket.gethostname(), os.getpid())
        with pytest.raises(UserError, match=rf"still running.*{os.getpid()}"):
            refuse_running(folder)
    assert not folder.lock.exists()


def test_it_goes_too_when_the_run_fails(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match="x"), locked(folder):
        raise ValueError("x")
    assert not folder.lock.exists()


def hold(folder: RunFolder, **changed: object) -> None:
    """As this process would, but for what is changed."""
    with locked(folder):
        held = json.loads(folder.lock.read_text())
    folder.lock.write_text(json.dumps(held | changed))


def test_a_lock_whose_process_is_gone_is_taken_over(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    hold(RunFolder(tmp_path), pid=gone.pid)
    with locked(RunFolder(tmp_path)):
        assert json.loads(RunFolder(tmp_path).lock.read_text())["pid"] == os.getpid()


def test_of_many_that_take_it_over_at_once_one_gets_it(tmp_path: Path) -> None:
    def take(_: int) -> bool:
        start.wait()
        try:
            with locked(RunFolder(tmp_path)):
                done.wait()
        except UserError:
            done.wait()
            return False
        return True

    start, done = threading.Barrier(8), threading.Barrier(8)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            hold(RunFolder(tmp_path), started="1")
            assert sum(threads.map(take, range(8))) == 1


def test_a_later_process_of_the_same_number_does_not_hold_it(tmp_path: Path) -> None:
    hold(RunFolder(tmp_path), started="1")
    refuse_running(RunFolder(tmp_path))


@pytest.mark.parametrize("content", ['{"host": "elsewhere", "pid": 1, "started": "1"}', "", "[1]"])
def test_a_lock_that_cannot_be_judged_is_refused_saying_what_to_delete(
    tmp_path: Path, content: str
) -> None:
    folder = RunFolder(tmp_path)
    folder.lock.write_text(content)
    with pytest.raises(UserError, match=f"delete {folder.lock}"):
        refuse_running(folder)


def test_a_full_disk_leaves_no_lock_behind(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    refused = pytest.raises(UserError, match=r"cannot write the run folder .*File too large")
    with at_most(0, resource.RLIMIT_FSIZE), refused, locked(folder):
        pass
    assert not list(tmp_path.iterdir())
