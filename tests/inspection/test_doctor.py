"""cp2fast doctor as a whole: what it prints, writes and exits with."""

import json
from pathlib import Path

import pytest

from cp2fast import recipes
from cp2fast.config import PretrainSettings
from cp2fast.inspection.check import Check
from cp2fast.inspection.doctor import run_doctor
from tests.command_line import cp2fast
from tests.inspection.tiny import TINY

FINE = Check("thing", "ok", "did it", needed=True)


def doctor(*words: str, found: Check = FINE, report: Path | None = None) -> bool:
    """Of an installation of which this was found; its checks have tests of their own."""
    recipe = [word for word in words if "=" not in word]
    settings = recipes.load(
        PretrainSettings, *(recipe or [None]), [word for word in words if "=" in word]
    )
    return run_doctor(settings, report, installation={"sources": [found]})


def test_where_everything_works_it_says_what_to_run_next(
    scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(*TINY, f"data.root={scenes}")
    printed = capsys.readouterr().out
    assert f"cp2fast pretrain r50 data.root={scenes}" in printed
    assert "12, of which 12 were looked at" in printed
    assert "images/s by torch" in printed


@pytest.mark.parametrize(
    ("words", "judged"),
    [
        (["data.batch_size=12"], "pretrain r50 {root} data.batch_size=12"),
        (["demo", "data.batch_size=4"], "pretrain demo {root} data.batch_size=4"),
        (["r50_quick", "data.batch_size=3", "data.workers=1"],
         "pretrain r50_quick {root} data.batch_size=3 data.workers=1"),
    ],
)  # fmt: skip
def test_what_to_run_next_is_what_was_judged(
    words: list[str], judged: str, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"data.root={scenes}"
    assert doctor(*words, root)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"next: cp2fast {judged.format(root=root)}")


def test_piped_lines_hold_no_control_characters_and_are_not_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "a long line of detail " * 12
    assert doctor(found=Check("thing", "broken", long, "and [what] helps"))
    printed = capsys.readouterr().out
    assert long.strip() in printed
    assert "-> and [what] helps" in printed
    assert "\x1b" not in printed


def test_something_needed_that_fails_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert not doctor(found=Check("thing", "broken", "no", needed=True))
    assert "does not work here: thing" in capsys.readouterr().out


def test_something_optional_that_is_missing_does_no_harm() -> None:
    assert doctor(found=Check("thing", "missing", "not here", "pip install thing"))


@pytest.mark.slow
def test_this_installation_works_and_broken_photos_are_listed_and_exit_code_1(
    scenes: Path, tmp_path: Path
) -> None:
    for number, photo in enumerate(sorted((scenes / "JPEGImages").iterdir())):
        (tmp_path / photo.name).write_bytes(b"" if number in (3, 5) else photo.read_bytes())
    done = cp2fast("doctor", *TINY, f"data.root={tmp_path}")
    assert done.returncode == 1
    for title in ("sources", "backends of the copy-paste op", "devices", "torch"):
        assert f"\n{title}\n" in done.stdout
    assert f"{tmp_path / 'scene_00003.jpg'}: empty file" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("does not work here: broken files")


def test_the_json_file_holds_all_that_was_found(scenes: Path, tmp_path: Path) -> None:
    path = tmp_path / "doctor.json"
    assert doctor(*TINY, f"data.root={scenes}", report=path)
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
