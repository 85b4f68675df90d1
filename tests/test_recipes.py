"""Recipes: YAML files, overrides, and what is refused and how."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cp2fast import recipes
from cp2fast.config import (
    FinetuneSettings,
    PretrainSettings,
    check_root,
)
from cp2fast.errors import UserError
from cp2fast.run_settings import finetune_settings, pretrain_settings


def refusal(*overrides: str, recipe: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        recipes.load(PretrainSettings, recipe, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("recipe", recipes.names(PretrainSettings))
def test_every_recipe_loads_and_can_be_run(recipe: str) -> None:
    check_root(recipes.load(PretrainSettings, recipe, ["data.root=photos"]).data)


@pytest.mark.parametrize("recipe", recipes.names(FinetuneSettings))
def test_every_finetuning_recipe_loads_by_either_name(recipe: str) -> None:
    settings = recipes.load(FinetuneSettings, recipe, ["data.root=photos"])
    check_root(settings.data)
    assert recipes.load(FinetuneSettings, Path(recipe).name, ["data.root=photos"]) == settings


def test_a_name_of_an_older_version_is_read_and_todays_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = tmp_path / "old.yaml"
    recipe.write_text("train: {accumulate: 3}")
    loaded = [
        recipes.load(PretrainSettings, str(recipe), []),
        recipes.load(PretrainSettings, None, ["train.accumulate=3"]),
        recipes.load(PretrainSettings, None, {"train.accumulate": 3}),
        PretrainSettings.model_validate({"train": {"accumulate": 3}}),  # as of a checkpoint
    ]
    assert [settings.train.gradient_accumulation_steps for settings in loaded] == [3] * 4
    assert len(caplog.messages) == 4
    assert all("accumulate is now called" in line for line in caplog.messages)
    assert all("gradient_accumulation_steps; please" in line for line in caplog.messages)


def test_a_name_of_today_beats_one_of_an_older_version(tmp_path: Path) -> None:
    recipe = tmp_path / "old.yaml"
    recipe.write_text("train: {checkpoint_keep: 3}")
    settings = recipes.load(FinetuneSettings, str(recipe), ["train.keep_last=5"])
    assert settings.train.keep_last == 5


def test_a_wrong_value_under_an_old_name_is_refused_under_todays(tmp_path: Path) -> None:
    recipe = tmp_path / "old.yaml"
    recipe.write_text("train: {accumulate: many}")
    assert "gradient_accumulation_steps=many is not" in refusal(recipe=str(recipe))


def test_the_papers_finetuning_recipe_is_the_papers() -> None:
    settings = recipes.load(FinetuneSettings, "finetune/voc_r50", [])
    data, train = settings.data, settings.train
    assert (settings.model.size, data.short_side, data.batch_size) == (512, 512, 16)
    assert (data.scale_low, data.scale_high) == (0.5, 2.0)
    assert (train.steps, train.lr, train.lr_power, train.lr_end) == (40_000, 0.003, 0.9, 1e-4)
    assert (train.optimizer, train.momentum, train.weight_decay) == ("sgd", 0.9, 0.0)
    assert (settings.evaluation.mode, settings.evaluation.scales) == ("whole", (1.0,))


def test_the_paper_recipe_is_the_papers() -> None:
    settings = recipes.load(PretrainSettings, "r50", [])
    assert settings.model.backbone == "resnet50"
    assert (settings.model.queue, settings.model.momentum) == (65_536, 0.999)
    assert (settings.model.temperature, settings.model.dense_weight) == (0.2, 0.2)
    assert (settings.train.lr, settings.train.weight_decay) == (0.015, 1e-4)
    assert (settings.train.epochs, settings.data.batch_size) == (200, 256)


def test_an_override_beats_the_recipe_and_the_recipe_beats_the_default(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train: {epochs: 7, seed: 3}")
    settings = recipes.load(PretrainSettings, str(recipe), ["train.seed=4"])
    assert (settings.train.epochs, settings.train.seed, settings.train.log_every) == (7, 4, 10)


def test_numbers_are_read_as_people_write_them() -> None:
    assert recipes.load(PretrainSettings, None, ["train.lr=1e-3"]).train.lr == 1e-3
    assert recipes.load(PretrainSettings, None, ["train.steps=null"]).train.steps is None


def test_settings_survive_a_round_trip_through_yaml(tmp_path: Path) -> None:
    settings = recipes.load(PretrainSettings, "vits16", ["data.root=a b/c", "train.steps=3"])
    saved = tmp_path / "config.yaml"
    saved.write_text(recipes.to_yaml(settings))
    assert recipes.load(PretrainSettings, str(saved), []) == settings


def test_a_kept_config_from_before_a_section_was_there_loads_with_its_defaults(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "config.yaml"
    tree = yaml.safe_load(recipes.to_yaml(PretrainSettings()))
    del tree["augment"]
    kept.write_text(yaml.safe_dump(tree))
    assert recipes.load(PretrainSettings, str(kept), []) == PretrainSettings()


@pytest.mark.parametrize("brightness", [0, 0.7, [0.5, 1.2]])
def test_a_colour_takes_a_strength_or_a_range(tmp_path: Path, brightness: object) -> None:
    settings = recipes.load(PretrainSettings, None, [f"augment.brightness={brightness}"])
    expected = tuple(brightness) if isinstance(brightness, list) else brightness
    assert settings.augment.brightness == expected
    kept = tmp_path / "config.yaml"
    kept.write_text(recipes.to_yaml(settings))
    assert recipes.load(PretrainSettings, str(kept), []) == settings


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("train.batch=5", "data.batch_size"),
        ("data.rot=x", "data.root"),
        ("root=x", "data.root"),
        ("train.batch_size=8", "data.batch_size"),
        ("lr=1", "train.lr"),
        ("model.tempreature=1", "model.temperature"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(override: str, nearest: str) -> None:
    message = refusal(override)
    assert override in message
    assert nearest in message


def test_an_unknown_key_in_a_file_is_refused_like_one_on_the_command_line(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train: {epoch: 7}")
    message = refusal(recipe=str(recipe))
    assert "train.epoch=7" in message
    assert "train.epochs" in message


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs=many",
        "train.epochs=0",
        "train.epochs=1.5",
        "train.epochs=yes",
        "train.lr=.nan",
        "train.lr=-1",
        "data.source=dail",
        "train.lr=[1, 2]",
        "model.momentum=1",
        "data.max_bad_fraction=2",
    ],
)
def test_a_wrong_value_is_refused_naming_key_value_and_what_it_takes(override: str) -> None:
    message = refusal(override)
    key, _, value = override.partition("=")
    assert message.startswith(f"{key}=")
    assert value.strip(".") in message
    assert "default" in message


def test_what_is_no_setting_at_all_is_refused() -> None:
    assert "KEY=VALUE" in refusal("photos")
    assert "'r50'" in refusal(recipe="r5")
    assert "quote" in refusal("train.lr=[")


NOT_YAML = ["!!bool maybe", "!!int ''", "!!timestamp today"]


@pytest.mark.parametrize("text", [*NOT_YAML, "!!binary aGk=", "[!!binary aGk=, 1]"])
def test_values_of_types_that_no_setting_has_are_refused_in_one_line(text: str) -> None:
    message = refusal(f"train.lr={text}")
    assert message.startswith("train.lr=")


def test_overrides_may_come_from_an_iterator(tmp_path: Path) -> None:
    words = [f"data.root={tmp_path}", "data.batch_size=7"]
    assert recipes.load(PretrainSettings, None, iter(words)).data.batch_size == 7  # type: ignore[arg-type]
    settings, _ = finetune_settings(None, iter(words), out=None)  # type: ignore[arg-type]
    assert (settings.data.root, settings.data.batch_size) == (tmp_path, 7)


@pytest.mark.parametrize("overrides", [{3: 4}, [3], "data.root=photos"])
@pytest.mark.parametrize("settings_of", [pretrain_settings, finetune_settings])
def test_overrides_that_are_no_settings_by_key_are_refused(
    overrides: Any, settings_of: Callable[..., object]
) -> None:
    with pytest.raises(UserError) as caught:
        settings_of(None, overrides, out=None, resume=False)
    assert str(caught.value).startswith(f"overrides={overrides!r}: write {{'data.root'")


@pytest.mark.parametrize(
    "text", ["- 1", "train: [", "data: photos", "\xff", *(f"train: {each}" for each in NOT_YAML)]
)
def test_a_broken_recipe_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "broken.yaml"
    recipe.write_bytes(text.encode("latin-1"))
    assert refusal(recipe=str(recipe))


def test_every_setting_is_described() -> None:
    settings = list(recipes.describe(PretrainSettings))
    assert all(setting.help and setting.values for setting in settings)
    assert {"data.root", "data.source", "model.init", "train.seed"} <= {s.key for s in settings}


def test_differences_name_the_keys() -> None:
    old = recipes.load(PretrainSettings, None, [])
    new = recipes.load(PretrainSettings, None, ["train.seed=1", "model.size=96"])
    assert recipes.differences(old, new) == [("model.size", 224, 96), ("train.seed", 0, 1)]


def test_the_home_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["data.root=~/photos", "model.init=~/w.pth"]
    settings = recipes.load(PretrainSettings, None, words)
    assert settings.data.root == tmp_path / "photos"
    assert settings.model.init == str(tmp_path / "w.pth")
    assert recipes.load(PretrainSettings, None, ["data.root=~"]).data.root == tmp_path
    (tmp_path / "mine.yaml").write_text("train: {seed: 5}\n")
    assert recipes.load(PretrainSettings, "~/mine.yaml", []).train.seed == 5


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train:\n  seed: 1\n  lr: 0.1\n  seed: 2\n")
    assert "train.seed twice, in the lines 2 and 4" in refusal(recipe=str(tmp_path / "a.yaml"))
    (tmp_path / "b.yaml").write_text("train: {seed: 1}\ntrain: {lr: 0.1}\n")
    assert "train twice, in the lines 1 and 2" in refusal(recipe=str(tmp_path / "b.yaml"))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data.classes={0: sky, 0: road}", "0"),
        ("data.classes={names: {0: sky, 1: car, 0: road}}", "names.0"),
        ("data.classes.names={0: sky, 0: road}", "0"),
        ("data.colours={a: [1, 2, 3], a: [3, 4, 5]}", "a"),
    ],
)
def test_a_key_that_stands_twice_in_a_value_is_refused(override: str, key: str) -> None:
    with pytest.raises(UserError) as caught:
        recipes.load(FinetuneSettings, None, [override])
    assert str(caught.value) == f"{override} has {key} twice: keep one"


def test_a_recipe_may_be_in_any_unicode(tmp_path: Path) -> None:
    for number, encoding in enumerate(("utf-8-sig", "utf-16")):
        path = tmp_path / f"{number}.yaml"
        path.write_bytes("data: {root: caf\xe9}\n".encode(encoding))
        assert recipes.load(PretrainSettings, str(path), []).data.root == Path("caf\xe9")
    (tmp_path / "old.yaml").write_bytes("data: {root: caf\xe9}\n".encode("latin-1"))
    assert "save it as UTF-8" in refusal(recipe=str(tmp_path / "old.yaml"))


def test_a_recipe_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "circle.yaml").symlink_to(tmp_path / "circle.yaml")
    assert "not a plain file" in refusal(recipe=str(tmp_path / "pipe.yaml"))
    assert "is a folder" in refusal(recipe=str(tmp_path))
    assert "circle" in refusal(recipe=str(tmp_path / "circle.yaml"))


@pytest.mark.parametrize("key", ["train.seed", "data.batch_size", "data.workers", "model.size"])
def test_a_number_beyond_all_machines_is_refused(key: str) -> None:
    assert key in refusal(f"{key}=99999999999999999999")


def test_a_checkpoint_has_the_settings_of_its_run_from_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step_1.pt"
    checkpoint.parent.mkdir(parents=True)
    stored = tmp_path / "run" / "config.yaml"
    stored.write_text("train: {}")
    for named in (stored.parent, checkpoint):
        assert recipes.stored_beside(named) == str(stored)
    monkeypatch.chdir(checkpoint.parent)
    assert recipes.stored_beside(Path("step_1.pt")) == str(stored)


def test_settings_near_a_file_that_is_no_checkpoint_are_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("train: {}")
    weights = tmp_path / "weights" / "weights.pth"
    weights.parent.mkdir()
    assert recipes.stored_beside(weights) is None
