"""Values as people type them, on the command line and in files: paths, names and switches."""

from pathlib import Path

import pytest

from cp2fast import recipes
from cp2fast.config import FinetuneSettings, PretrainSettings

LITERAL = [
    "photos #1",
    "2012",
    "2021-05-03",
    "0123",
    "no",
    "a: b",
    "[photos]",
    "a[/b]c",
    "{x}",
    "*",
]


@pytest.mark.parametrize("name", [*LITERAL, "'quoted'", " blank "])
def test_a_path_is_what_was_typed(name: str) -> None:
    settings = recipes.load(PretrainSettings, None, [f"data.root={name}", f"model.init={name}"])
    assert settings.data.root == Path(name)
    assert settings.model.init == name
    fine = recipes.load(FinetuneSettings, None, [f"data.train_split={name}"])
    assert fine.data.train_split == name


@pytest.mark.parametrize("name", LITERAL)
def test_a_path_is_the_same_when_a_run_reads_its_settings_back(tmp_path: Path, name: str) -> None:
    settings = recipes.load(PretrainSettings, None, [f"data.root={name}", f"model.init={name}"])
    (tmp_path / "config.yaml").write_text(recipes.to_yaml(settings))
    assert recipes.load(PretrainSettings, str(tmp_path / "config.yaml"), []) == settings


def test_a_path_in_a_file_needs_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: {root: 0123}\nmodel: {init: 2021-05-03}\n")
    settings = recipes.load(PretrainSettings, str(tmp_path / "a.yaml"), [])
    assert settings.data.root == Path("0123")
    assert settings.model.init == "2021-05-03"
    (tmp_path / "b.yaml").write_text("data:\n  root: null\n  classes: [no, 1, on]\n")
    fine = recipes.load(FinetuneSettings, str(tmp_path / "b.yaml"), [])
    assert fine.data.root is None
    assert fine.data.classes == ("no", "1", "on")
    assert recipes.load(FinetuneSettings, None, ["data.classes=[no, 1]"]).data.classes == (
        "no",
        "1",
    )


@pytest.mark.parametrize("value", ["", "null"])
def test_none_is_still_to_be_had(value: str) -> None:
    assert recipes.load(PretrainSettings, None, [f"data.root={value}"]).data.root is None


@pytest.mark.parametrize(("word", "chosen"), [("on", "on"), ("Yes", "on"), ("false", "off")])
def test_a_switch_takes_yamls_words(tmp_path: Path, word: str, chosen: str) -> None:
    (tmp_path / "a.yaml").write_text(f"data: {{nearest: {word}}}\n")
    for recipe, overrides in ((None, [f"data.nearest={word}"]), (tmp_path / "a.yaml", [])):
        assert recipes.load(FinetuneSettings, recipe, overrides).data.nearest == chosen
