"""Combinations of settings that cannot work."""

import pytest

from cp2fast import recipes
from cp2fast.config import (
    DataSettings,
    FinetuneSettings,
    PretrainSettings,
    check_root,
)
from cp2fast.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ([], ["data.root"]),
        (["data.root=x", "data.batch_size=2"], ["data.batch_size", "data.background"]),
        (
            ["data.root=x", "data.batch_size=1", "data.background=independent"],
            ["data.batch_size=1"],
        ),
        (["data.root=x", "data.decode=gpu", "train.device=cpu"], ["data.decode", "train.device"]),
        (["data.root=x", "data.decode=gpu", "data.source=torch"], ["data.decode", "data.source"]),
    ],
)
def test_a_combination_that_cannot_work_is_refused(overrides: list[str], keys: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        check_root(recipes.load(PretrainSettings, None, overrides).data)
    assert all(key in str(caught.value) for key in keys)


def test_python_users_get_the_same_refusal() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=2 with data\.background=batch"):
        PretrainSettings(data=DataSettings(batch_size=2))
    with pytest.raises(UserError, match=r"train\.lr_end=1\.0 is more than train\.lr=0\.1"):
        FinetuneSettings.model_validate({"train": {"lr": 0.1, "lr_end": 1.0}})


def test_settings_without_data_can_be_made_and_not_run() -> None:
    check_root(DataSettings(scenes=8))
    with pytest.raises(UserError, match=r"data\.root"):
        check_root(FinetuneSettings().data)
