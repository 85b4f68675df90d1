"""The stages of benchmarks/gpu.py: a limit that holds for everything a stage starts."""

import os
import sys
import time

from benchmarks.gpu import start

TALKS_AND_LEAVES_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("the child is", child.pid, flush=True)
time.sleep(600)
"""


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_stage_at_its_limit_ends_with_its_children_and_keeps_what_it_said() -> None:
    done, _ = start([sys.executable, "-c", TALKS_AND_LEAVES_A_CHILD], limit=5)
    assert done.returncode == 124
    assert done.stdout.startswith("the child is ")
    assert "not done after 5 s" in done.stderr
    child = int(done.stdout.split()[-1])
    deadline = time.monotonic() + 30
    while exists(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stage_gives_its_output_and_exit_code() -> None:
    done, _ = start([sys.executable, "-c", "print('seen'); raise SystemExit(3)"], limit=60)
    assert (done.returncode, done.stdout) == (3, "seen\n")
