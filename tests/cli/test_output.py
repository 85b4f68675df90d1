"""What is said when the user has seen enough: by Ctrl-C, or into a pipe whose reader leaves."""

import signal
import threading

import pytest

from tests.command_line import cp2fast
from tests.processes import Process


@pytest.mark.slow
@pytest.mark.parametrize("words", [["models"], ["--version"], ["pretrain", "--help"]])
def test_a_reader_that_leaves_early_is_no_failure(words: list[str]) -> None:
    """As of ``cp2fast models | head -1``."""
    process = Process(*words)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0
    assert errors == ""


def test_ctrl_c_is_no_traceback_and_no_success() -> None:
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    done = cp2fast("bench", "augment", "data.scenes=8", "data.batch_size=8", "--seconds", 60)
    timer.cancel()
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "cp2fast: interrupted"
