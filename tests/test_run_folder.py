import json
import subprocess
import sys
from pathlib import Path

import pytest

from cp2fast.errors import UserError
from cp2fast.run_folder import RunFolder, atomic_write, read_metrics


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create("first: 1")
    with pytest.raises(UserError, match=r"--resume.*--out"):
        folder.create("second: 2")
    assert folder.config.read_text() == "first: 1"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="not empty"):
        RunFolder(tmp_path).create("")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run").create("")


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def write_half_and_fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half_and_fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    script = (
        "import os, sys; from pathlib import Path; from cp2fast.run_folder import *\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_bytes() == b"old"


def test_metrics_after_a_step_are_forgotten_and_a_torn_line_is_ignored(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
    folder.metrics.write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 4, "lo')
    assert read_metrics(folder.metrics) == rows
    folder.truncate_metrics(2)
    assert read_metrics(folder.metrics) == rows[:2]
