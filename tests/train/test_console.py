"""Stdout that is closed under a run."""

import subprocess
import sys

import pytest

from tests.processes import Process

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from cp2fast.train.console import RunConsole
console = RunConsole(quiet=False)
for number in range(100_000):
    console.print(f"line {number}")
    if console.is_gone:
        sys.exit(7)
"""


def test_a_closed_stdout_is_noticed_and_nothing_is_said_of_it() -> None:
    process = Process(script=SCRIPT)
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 7


def test_a_full_device_is_noticed_too() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (7, b"")
