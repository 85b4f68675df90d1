import errno
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cp2fast.errors import UserError
from cp2fast.run_folder import (
    BEST,
    RunFolder,
    atomic_write,
    damage,
    list_checkpoints,
    newest_intact,
    read_metrics,
    trained_weights,
)


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


def test_writers_with_the_same_process_number_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with atomic_write(path) as one:
        one.write(b"one")
        with atomic_write(path) as other:
            other.write(b"other")
        assert path.read_bytes() == b"other"
    assert path.read_bytes() == b"one"


@pytest.mark.slow
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


def test_an_evaluation_that_will_be_repeated_is_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = [{"step": step, key: 0.5} for step in (1, 2) for key in ("loss", "miou")]
    folder.metrics.write_text("\n".join(map(json.dumps, rows)))
    folder.truncate_metrics(2)
    assert read_metrics(folder.metrics) == rows
    folder.truncate_metrics(2, owes_evaluation=True)
    assert read_metrics(folder.metrics) == rows[:3]


def test_a_mangled_line_of_metrics_loses_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    mangled = [b'{"ste\xff', b"[]", b"1" * 5000, b"[" * 100_000]
    whole = [b'{"step": 1, "loss": 2.0}', b'{"step": 3, "loss": 1.0}']
    path.write_bytes(b"\n".join([whole[0], *mangled, whole[1], b""]))
    assert [row["step"] for row in read_metrics(path)] == [1, 3]


def checkpoints(run: Path, *names: str) -> Path:
    """Intact files of these names."""
    folder = run / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data", b"0" * 1000)
    return folder


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)


def test_only_strict_names_are_checkpoints_and_they_are_ordered_by_their_steps(
    tmp_path: Path,
) -> None:
    names = ["step_1000000000.pt", "step_000000002.pt", "step_000000010.pt"]
    folder = checkpoints(tmp_path, *names, "step_best.pt", "step_3.pt", BEST, "x.pt")
    found = [path.name for path in list_checkpoints(folder)]
    assert found == ["step_000000002.pt", "step_000000010.pt", "step_1000000000.pt"]


def test_a_damaged_newest_is_told_and_the_one_before_taken(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path, "step_000000002.pt", "step_000000010.pt")
    spoil(folder / "step_000000010.pt")
    said: list[str] = []
    assert newest_intact(folder, said.append) == folder / "step_000000002.pt"
    assert "step_000000010.pt is damaged" in said[0]
    spoil(folder / "step_000000002.pt")
    with pytest.raises(UserError, match="all 2 checkpoints"):
        newest_intact(folder, said.append)


def test_the_best_is_taken_where_there_is_one_and_said(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path, "step_000000010.pt", BEST)
    said: list[str] = []
    assert trained_weights(tmp_path, said.append, said.append) == folder / BEST
    assert "best" in said[-1]
    spoil(folder / BEST)
    assert trained_weights(tmp_path, said.append, said.append) == folder / "step_000000010.pt"
    assert "damaged" in said[-1]
    assert trained_weights(tmp_path / "nothing", said.append, said.append) is None


@pytest.mark.parametrize(
    ("config", "kind"),
    [("data: {}\nevaluation: {}", "finetune"), ("data: {}", "pretrain"), ("[", None), (None, None)],
)
def test_the_kind_of_a_run_is_known_from_its_settings(
    tmp_path: Path, config: str | None, kind: str | None
) -> None:
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    assert RunFolder(tmp_path).kind == kind


def test_a_checkpoint_in_which_any_byte_is_wrong_is_damaged_or_whole(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path, "step_000000002.pt")
    [path] = folder.iterdir()
    whole = path.read_bytes()
    found = set[str | None]()
    for place in [*range(60), *range(len(whole) - 80, len(whole))]:
        for bit in (1, 8, 64):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            found.add(damage(path))
    assert len(found - {None}) > 3


def test_a_name_of_any_length_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".png")
    with atomic_write(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(OSError, match="No space") as full, atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: 2021-13-45", b"[" * 3000, b"- a", None])
def test_settings_that_cannot_be_read_are_of_no_kind(tmp_path: Path, content: bytes | None) -> None:
    folder = RunFolder(tmp_path)
    if content is None:
        os.mkfifo(folder.config)
    else:
        folder.config.write_bytes(content)
    assert folder.kind is None
