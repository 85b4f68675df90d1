"""The cores of a process are those that it may use, not those of the machine."""

import os
import subprocess
import sys

import pytest

from cp2fast.cores import available_cores, decoding_workers


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
@pytest.mark.slow
def test_a_process_that_is_kept_to_one_core_has_one() -> None:
    assert available_cores() == len(os.sched_getaffinity(0))
    script = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from cp2fast.cores import available_cores; print(available_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_processes_of_a_machine_share_its_cores_for_decoding(monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert decoding_workers(None) == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert decoding_workers(None) == 4
    assert decoding_workers(3) == 3
    assert decoding_workers(0) == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "32")
    assert decoding_workers(None) == 1
