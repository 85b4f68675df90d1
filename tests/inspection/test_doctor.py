"""cp2fast doctor as a whole: what it prints, writes and exits with."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cp2fast.inspection import doctor
from cp2fast.inspection.check import Check
from tests.command_line import cp2fast
from tests.inspection.tiny import TINY


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of the installation have tests of their own; here some outcomes are given."""
    given(monkeypatch, Check("thing", "ok", "did it", needed=True))


def given(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> None:
    def found() -> Iterator[Check]:
        yield from checks

    monkeypatch.setattr(doctor, "check_sources", found)
    for name in ("check_backends", "check_devices", "check_torch"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))


def test_where_everything_works_it_says_what_to_run_next(scenes: Path) -> None:
    done = cp2fast("doctor", *TINY, f"data.root={scenes}")
    assert done.returncode == 0, done.stdout
    assert f"cp2fast pretrain r50 data.root={scenes}" in done.stdout
    assert "12, of which 12 were looked at" in done.stdout
    assert "images/s by torch" in done.stdout


@pytest.mark.parametrize(
    ("words", "judged"),
    [
        (["data.batch_size=12"], "pretrain r50 {root} data.batch_size=12"),
        (["demo", "data.batch_size=4"], "pretrain demo {root} data.batch_size=4"),
        (["r50_quick", "data.batch_size=3", "data.workers=1"],
         "pretrain r50_quick {root} data.batch_size=3 data.workers=1"),
    ],
)  # fmt: skip
def test_what_to_run_next_is_what_was_judged(words: list[str], judged: str, scenes: Path) -> None:
    root = f"data.root={scenes}"
    done = cp2fast("doctor", *words, root)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].endswith(f"next: cp2fast {judged.format(root=root)}")


def test_piped_lines_hold_no_control_characters_and_are_not_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "a long line of detail " * 12
    given(monkeypatch, Check("thing", "broken", long, "and [what] helps"))
    done = cp2fast("doctor")
    assert long.strip() in done.stdout
    assert "-> and [what] helps" in done.stdout
    assert "\x1b" not in done.stdout


def test_something_needed_that_fails_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, Check("thing", "broken", "no", needed=True))
    done = cp2fast("doctor")
    assert done.returncode == 1
    assert "does not work here: thing" in done.stdout


def test_something_optional_that_is_missing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, Check("thing", "missing", "not here", "pip install thing"))
    assert cp2fast("doctor").returncode == 0


def test_broken_photos_are_listed_and_too_many_are_exit_code_1(
    scenes: Path, tmp_path: Path
) -> None:
    for number, photo in enumerate(sorted((scenes / "JPEGImages").iterdir())):
        (tmp_path / photo.name).write_bytes(b"" if number in (3, 5) else photo.read_bytes())
    done = cp2fast("doctor", *TINY, f"data.root={tmp_path}")
    assert done.returncode == 1
    assert f"{tmp_path / 'scene_00003.jpg'}: empty file" in done.stdout


def test_the_json_file_holds_all_that_was_found(scenes: Path, tmp_path: Path) -> None:
    path = tmp_path / "doctor.json"
    assert cp2fast("doctor", *TINY, f"data.root={scenes}", "--json", str(path)).returncode == 0
    found = json.loads(path.read_text())
    assert found["works"] is True
    assert found["checks"]["sources"][0]["name"] == "thing"
    assert found["data"]["images"] == 12
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["torch"]


@pytest.mark.parametrize("words", [["data.root=nowhere"], ["data.rot=x"], ["--json", "here.json"]])
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.json").write_text("precious")
    done = cp2fast("doctor", *words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert Path("here.json").read_text() == "precious"
