"""cp2fast doctor as a whole: what it prints, writes and exits with."""

import json
import shlex
from pathlib import Path

import fsspec
import pytest

from cp2fast import recipes
from cp2fast.config import PretrainSettings
from cp2fast.console import open_console
from cp2fast.data.image_sets.listing import list_images
from cp2fast.inspection.advice import advise
from cp2fast.inspection.check import Check
from cp2fast.inspection.data_health import examine
from cp2fast.inspection.doctor import Diagnosis
from cp2fast.inspection.doctor_report import CheckLines, show_data, show_verdict
from tests.command_line import cp2fast, refusal
from tests.inspection.tiny import TINY

FINE = Check("thing", "ok", "did it", needed=True)


def diagnosis(*words: str, recipe: str | None = None, installed: Check = FINE) -> Diagnosis:
    """Of an installation of which this was found; its checks have tests of their own."""
    settings = recipes.load(PretrainSettings, recipe, list(words))
    checks, data = {"sources": [installed]}, None
    if settings.data.root is not None:
        data = examine(settings, settings.data.root, list_images(settings.data.root))
        checks["data"] = list(advise(data, settings))
    return Diagnosis(settings, checks, data, seconds=0.1)


def printed(found: Diagnosis, capsys: pytest.CaptureFixture[str]) -> str:
    console = open_console()
    for check in found.checks["sources"]:
        CheckLines(console)("sources", check)
    show_data(console, found)
    show_verdict(console, found)
    return capsys.readouterr().out


def test_where_everything_works_it_says_what_to_run_next(
    scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = diagnosis(*TINY, f"data.root={scenes}")
    assert found.works
    text = printed(found, capsys)
    assert f"cp2fast pretrain r50 data.root={scenes}" in text
    assert "12, of which 12 were looked at" in text
    assert "images/s by torch" in text


def test_a_recipe_for_few_images_has_a_batch_that_they_fill(scenes: Path, tmp_path: Path) -> None:
    diagnosis(*TINY, f"data.root={scenes}", "data.batch_size=64").write_recipe(tmp_path / "my.yaml")
    proposed = recipes.load(PretrainSettings, str(tmp_path / "my.yaml"), [])
    assert diagnosis(recipe=str(tmp_path / "my.yaml")).works
    assert proposed.data.batch_size <= 12


@pytest.mark.parametrize(
    ("recipe", "words", "judged"),
    [
        (None, ["data.batch_size=12"], "pretrain r50 {root} data.batch_size=12"),
        ("demo", ["data.batch_size=4"], "pretrain demo {root} data.batch_size=4"),
        ("r50_quick", ["data.batch_size=3", "data.workers=1"],
         "pretrain r50_quick {root} data.batch_size=3 data.workers=1"),
    ],
)  # fmt: skip
def test_what_to_run_next_is_what_was_judged(
    recipe: str | None,
    words: list[str],
    judged: str,
    scenes: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = f"data.root={scenes}"
    text = printed(diagnosis(*words, root, recipe=recipe), capsys)
    assert text.splitlines()[-1].endswith(f"next: cp2fast {judged.format(root=root)}")


def test_what_to_run_next_can_be_pasted_into_a_shell(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "it's all & more"
    photos.symlink_to(scenes)
    words = [*TINY, f"data.root={photos}", "train.log=[mlflow]"]
    text = printed(diagnosis(*words), capsys)
    _, _, command = text.splitlines()[-1].partition("next: ")
    called, subcommand, recipe, *pasted = shlex.split(command)
    assert (called, subcommand) == ("cp2fast", "pretrain")
    pasted_settings = recipes.load(PretrainSettings, recipe, pasted)
    assert pasted_settings.data.root == photos
    assert pasted_settings.train.log == ("mlflow",)
    assert pasted_settings.model.backbone == "test_resnet"


def test_credentials_are_neither_printed_nor_written(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(scenes / "JPEGImages"), "/user:SECRET@host/photos", recursive=True)
    found = diagnosis(*TINY, f"data.root=[memory://user:SECRET@host/photos,{scenes}]")
    found.write_recipe(tmp_path / "my.yaml")
    recipe = (tmp_path / "my.yaml").read_text()
    text = printed(found, capsys)
    root = f"data.root=[memory://host/photos, {scenes}]"
    assert text.splitlines()[-1].count("data.root=") == text.splitlines()[-1].count(root) == 1
    assert "- memory://host/photos\n" in recipe
    assert "SECRET" not in text + recipe + json.dumps(found.to_json())


def test_piped_lines_hold_no_control_characters_and_are_not_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "a long line of detail " * 12
    text = printed(diagnosis(installed=Check("it", "broken", long, "and [what] helps")), capsys)
    assert long.strip() in text
    assert "-> and [what] helps" in text
    assert "\x1b" not in text


def test_something_needed_that_fails_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = diagnosis(installed=Check("thing", "broken", "no", needed=True))
    assert not found.works
    assert "does not work here: thing" in printed(found, capsys)


def test_something_optional_that_is_missing_does_no_harm() -> None:
    assert diagnosis(installed=Check("thing", "missing", "not here", "pip install thing")).works


@pytest.mark.slow
def test_this_installation_works_and_broken_photos_are_listed_and_exit_code_1(
    scenes: Path, tmp_path: Path
) -> None:
    report, photos = tmp_path / "doctor.json", tmp_path / "photos"
    photos.mkdir()
    for number, photo in enumerate(sorted((scenes / "JPEGImages").iterdir())):
        (photos / photo.name).write_bytes(b"" if number in (3, 5) else photo.read_bytes())
    done = cp2fast("doctor", *TINY, f"data.root={photos}", "--json", report)
    assert done.returncode == 1
    groups = ("sources", "backends of the copy-paste op", "devices", "torch")
    assert all(f"\n{group}\n" in done.stdout for group in groups)
    assert f"{photos / 'scene_00003.jpg'}: empty file" in done.stdout
    assert "\npretraining does not work here: broken files\n" in done.stdout
    found = json.loads(report.read_text())
    assert found["works"] is False
    assert list(found["checks"]) == [*groups, "data"]
    assert {name for name, _ in found["data"]["bad"]} == {
        str(photos / f"scene_0000{number}.jpg") for number in (3, 5)
    }


def test_all_that_was_found_is_kept_as_plain_values(scenes: Path) -> None:
    found = json.loads(json.dumps(diagnosis(*TINY, f"data.root={scenes}").to_json()))
    assert found["works"] is True
    assert found["checks"]["sources"][0]["name"] == "thing"
    assert found["data"]["images"] == 12
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["torch"]


@pytest.mark.parametrize(
    "words", [["data.root=nowhere"], ["data.root=empty"], ["data.rot=x"], ["--json", "here.json"]]
)
def test_bad_input_is_one_line_and_exit_code_2_before_anything_is_tested(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.json").write_text("precious")
    Path("empty").mkdir()
    done = cp2fast("doctor", *words)
    assert done.returncode == 2
    assert "devices" not in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert Path("here.json").read_text() == "precious"


def test_the_recipe_is_not_written_where_the_report_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(cp2fast("doctor", "data.root=.", "--json", "new", "--write", "./new"))
    assert line.endswith(": --json and --write both name new: name two files")
    assert list(tmp_path.iterdir()) == []
