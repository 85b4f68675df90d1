"""Stdout that is closed under a run, that is not there, or that knows few characters."""

import io
import os
import subprocess
import sys

import pytest

from cp2fast.train.console import RunConsole
from tests.processes import Process

SCRIPT = """
import sys
from cp2fast.train.console import RunConsole
console = RunConsole(quiet=False)
for number in range(100_000):
    console.print(f"line {number}")
    if console.is_gone:
        sys.exit(7)
"""


@pytest.mark.slow
def test_a_closed_stdout_is_noticed_and_nothing_is_said_of_it() -> None:
    process = Process(script=SCRIPT)
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 7


@pytest.mark.slow
def test_a_full_device_is_noticed_too() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (7, b"")


def test_a_stdout_that_was_never_there_is_none_that_was_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    console = RunConsole(quiet=False)
    console.print("a line")
    assert not console.is_gone


class Tee:
    """What scripts put in the place of stdout, with nothing more than ``print`` needs."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def test_a_stdout_that_a_script_replaced_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    tee = Tee()
    monkeypatch.setattr(sys, "stdout", tee)
    RunConsole(quiet=False).print("a line")
    assert tee.text == "a line\n"


@pytest.mark.parametrize(
    ("encoding", "name", "shown"),
    [
        ("utf-8", os.fsdecode(b"l\xe4ufe"), b"l\\udce4ufe\n"),
        ("latin-1", "läufe/写真", b"l\xe4ufe/\\u5199\\u771f\n"),
    ],
)
def test_a_name_that_stdout_cannot_encode_is_printed_with_escapes(
    encoding: str, name: str, shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Python too, where stdout raises an error; the command line sets it up."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    RunConsole(quiet=False).print(name)
    assert written.getvalue() == shown
