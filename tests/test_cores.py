"""The cores of a process are those that it may use, not those of the machine."""

import os
import subprocess
import sys

import pytest

from cp2fast.cores import available_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
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
