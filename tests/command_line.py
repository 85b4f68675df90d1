"""The command line in this process, which saves the seconds that importing torch takes."""

import contextlib
import io
import sys
from typing import NamedTuple

import pytest

from cp2fast.cli import main


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def cp2fast(*words: object) -> Done:
    """Run the command with these words."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.setattr(sys, "argv", ["cp2fast", *map(str, words)])
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def refusal(done: Done) -> str:
    """What a refused command says: one line, with exit code 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]
