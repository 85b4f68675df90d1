"""Combinations of settings that cannot work."""

import pytest

from cp2fast import recipes
from cp2fast.config import PretrainSettings, check_pretrain
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
        check_pretrain(recipes.load(PretrainSettings, None, overrides))
    assert all(key in str(caught.value) for key in keys)
