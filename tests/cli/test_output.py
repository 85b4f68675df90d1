"""What is said when the user has seen enough: by Ctrl-C, or into a pipe whose reader leaves.

Or when nobody listens from the start.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cp2fast.data.scenes import generate_scenes
from tests.command_line import cp2fast
from tests.pretrain.runs import TINY
from tests.processes import Process

# Background jobs of a shell, and what they start, ignore the signal unless a handler is set.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from cp2fast.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", [["models"], ["--version"], ["pretrain", "--help"]])
def test_a_reader_that_leaves_early_is_no_failure(words: list[str]) -> None:
    """As of ``cp2fast models | head -1``."""
    process = Process(*words)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0
    assert errors == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [("models >&-", 0), ("doctor nothing 2>&-", 2), ("preview nothing <&- >&- 2>&-", 2)],
)
def test_a_stream_that_is_not_there_changes_no_exit_code(words: str, code: int) -> None:
    """As in daemons and under some wrappers of cron."""
    command = f"{sys.executable} -m cp2fast {words}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


STARTS_A_PROCESS = """
import os, subprocess, sys
os.close(1)
sys.stdout = None
from cp2fast.console import open_missing
open_missing()
child = "import sys; sys.exit(sys.stdout is None)"
sys.exit(subprocess.run([sys.executable, "-c", child]).returncode)
"""


def test_processes_that_a_command_starts_have_the_stream_that_was_not_there() -> None:
    done = subprocess.run([sys.executable, "-c", STARTS_A_PROCESS], check=False)
    assert done.returncode == 0


@pytest.mark.slow
def test_a_run_without_stdout_is_not_stopped(tmp_path: Path) -> None:
    generate_scenes(tmp_path / "scenes", 8, seed=0)
    words = [f"data.root={tmp_path}/scenes", *TINY, "train.steps=2", "--out", tmp_path / "run"]
    closed = "import os, sys; os.close(1); sys.stdout = None; from cp2fast.cli import main; main()"
    process = Process("pretrain", *words, script=closed)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (tmp_path / "run" / "checkpoints" / "step_000000002.pt").exists()


@pytest.mark.slow
def test_ctrl_c_is_no_traceback_and_no_success(tmp_path: Path) -> None:
    generate_scenes(tmp_path / "scenes", 8, seed=0)
    words = ["bench", "augment", f"data.root={tmp_path}/scenes", "data.batch_size=8"]
    process = Process(*words, "--rounds", 1, "--seconds", 5, script=INTERRUPTIBLE)
    assert process.stderr.readline().startswith("bench augment: ")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines() == ["cp2fast: interrupted"]


def test_an_end_of_file_is_no_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command asks for input: what it reads is cut off, and the traceback says where."""

    def cut_off() -> list[str]:
        raise EOFError("Ran out of input")

    monkeypatch.setattr("timm.list_pretrained", cut_off)
    with pytest.raises(EOFError, match="Ran out of input"):
        cp2fast("models", "resnet18")
