"""The command line in this process, and settings of a run that takes a second."""

import contextlib
import io
import sys
from typing import NamedTuple

import pytest

from cp2fast.cli import main

TINY = [
    "model.backbone=test_resnet",
    "model.head_channels=16",
    "model.size=64",
    "model.queue=64",
    "data.batch_size=4",
    "data.workers=0",
    "data.source=torch",
    "train.device=cpu",
]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def cp2fast(*words: str) -> Done:
    """The command in this process, which saves the seconds that importing torch takes."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.setattr(sys, "argv", ["cp2fast", *words])
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return Done(code, stdout.getvalue(), stderr.getvalue())
