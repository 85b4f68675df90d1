"""Comparisons of starts: one budget, resumable, an honest table."""

import json
import re
from pathlib import Path
from statistics import fmean, stdev

import pytest

from cp2fast.config import FinetuneSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.finetune.compare import plan_trials, run_compare
from cp2fast.finetune.result import RESULT
from cp2fast.run_folder import write_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> FinetuneSettings:
    root = tmp_path_factory.mktemp("data") / "scenes"
    generate_scenes(root, 10, seed=5)
    return FinetuneSettings.model_validate(
        {
            "data": {"root": root, "batch_size": 3, "workers": 1, "short_side": 40},
            "model": {"backbone": "test_resnet", "head_channels": 8, "size": 32},
            "train": {"steps": 2, "device": "cpu", "lr": 0.01},
        }
    )


def refusal(settings: FinetuneSettings, path: Path, starts: list[str], seeds: list[int]) -> str:
    with pytest.raises(UserError) as caught:
        plan_trials(settings, path, starts, seeds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_finished_trials_are_kept_and_missing_ones_are_run(
    settings: FinetuneSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison"
    run_compare(settings, out, ["random"], [0, 1])
    first = (out / "random-seed0" / "result.json").stat().st_mtime_ns
    capsys.readouterr()
    found = run_compare(settings, out, ["random", str(out / "random-seed0")], [0, 1])
    table = capsys.readouterr().out
    assert (out / "random-seed0" / "result.json").stat().st_mtime_ns == first
    assert "deviation" in table
    compared = json.loads((out / "compare.json").read_text())["starts"]
    assert len(compared) == 2
    for start, folder in (("random", "random"), (str(out / "random-seed0"), "random-seed0")):
        mious = [
            json.loads((out / f"{folder}-seed{seed}" / "result.json").read_text())["miou"]
            for seed in (0, 1)
        ]
        assert list(compared[start]["miou"].values()) == mious
        assert compared[start]["mean"] == pytest.approx(fmean(mious))
        assert compared[start]["deviation"] == pytest.approx(stdev(mious))
        assert found.miou[start] == dict(enumerate(mious))
        assert found.mean(start) == compared[start]["mean"]


def test_the_gain_of_a_start_is_over_the_first(
    settings: FinetuneSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for start, mious in {"random": (0.3, 0.4), "imagenet": (0.32, 0.41)}.items():
        for seed, miou in enumerate(mious):
            (tmp_path / f"{start}-seed{seed}").mkdir()
            write_json(tmp_path / f"{start}-seed{seed}" / RESULT, {"miou": miou})
    run_compare(settings, tmp_path, ["random", "imagenet"], [0, 1])
    rows = capsys.readouterr().out.splitlines()
    first, other = (found for row in rows if (found := re.findall(r"\S+%", row)))
    assert first == ["30.00%", "40.00%", "35.00%", "7.07%"]
    assert other == ["32.00%", "41.00%", "36.50%", "6.36%", "+1.50%"]


def test_trials_differ_in_nothing_but_start_and_seed(
    settings: FinetuneSettings, tmp_path: Path
) -> None:
    trials = plan_trials(settings, tmp_path, ["random", "imagenet"], [4, 7])
    assert [(t.start, t.seed) for t in trials] == [
        (start, seed) for seed in (4, 7) for start in ("random", "imagenet")
    ]
    for trial in trials:
        assert (trial.settings.model.init, trial.settings.train.seed) == (trial.start, trial.seed)
        same = trial.settings.model_dump()
        same["model"].pop("init")
        same["train"].pop("seed")
        expected = trials[0].settings.model_dump()
        expected["model"].pop("init")
        expected["train"].pop("seed")
        assert same == expected


def test_a_start_in_the_home_folder_gives_its_trials_its_own_name(
    settings: FinetuneSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "start.pt").touch()
    [trial] = plan_trials(settings, tmp_path / "comparison", ["~/start.pt"], [0])
    assert trial.folder.path == tmp_path / "comparison" / "start.pt-seed0"


def test_another_budget_is_another_comparison(settings: FinetuneSettings, tmp_path: Path) -> None:
    run_compare(settings, tmp_path, ["random"], [0])
    longer = settings.model_copy(update={"train": settings.train.model_copy(update={"steps": 3})})
    assert "train.steps=2, not 3" in refusal(longer, tmp_path, ["random"], [0])


def test_starts_and_seeds_must_be_different_and_some(
    settings: FinetuneSettings, tmp_path: Path
) -> None:
    for starts, seeds in ((["random", "random"], [0]), (["random"], [0, 0]), ([], [0])):
        assert "--compare" in refusal(settings, tmp_path, starts, seeds)


def test_a_start_that_cannot_be_had_is_found_before_any_training(
    settings: FinetuneSettings, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no weights at nowhere"):
        run_compare(settings, tmp_path / "comparison", ["random", "nowhere"], [0])
    assert not (tmp_path / "comparison").exists()


@pytest.mark.parametrize("seed", [-1, "a"])
def test_a_seed_is_held_to_the_rules_of_its_setting(
    settings: FinetuneSettings, tmp_path: Path, seed: int
) -> None:
    assert "train.seed" in refusal(settings, tmp_path / "comparison", ["random"], [seed])
    assert not (tmp_path / "comparison").exists()


def test_a_start_with_an_impossible_name_is_refused(
    settings: FinetuneSettings, tmp_path: Path
) -> None:
    assert "File name too long" in refusal(settings, tmp_path, ["a" * 300], [0])
