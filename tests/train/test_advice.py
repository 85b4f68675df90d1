import pytest

from cp2fast.train.accounts import ACCOUNTS
from cp2fast.train.advice import Advice, of_whole_run


def shares(**given: float) -> dict[str, float]:
    return dict.fromkeys(ACCOUNTS, 0.0) | {"step": 1 - sum(given.values())} | given


@pytest.mark.parametrize(
    ("account", "setting"),
    [
        ("data", "data.workers"),
        ("save", "train.checkpoint_minutes"),
        ("evaluate", "train.evaluate_every"),
        ("evaluate", "train.probe_every"),
        ("log", "train.log_every"),
        ("log", "train.checkpoint_minutes"),
        ("start", "train.compile"),
    ],
)
def test_what_takes_more_than_a_tenth_is_named_once_with_its_setting(
    account: str, setting: str
) -> None:
    advice = Advice()
    said = [line for _ in range(30) for line in advice.hear(shares(**{account: 0.2}))]
    assert len(said) == 1
    assert said[0].startswith("20% of the time")
    assert setting in said[0]
    assert of_whole_run(shares(**{account: 0.2})) == said


def test_a_step_that_takes_most_of_the_time_is_not_named() -> None:
    advice = Advice()
    rows = [shares(data=0.09, save=0.05)] * 20
    assert [line for row in rows for line in advice.hear(row)] == []
    assert of_whole_run(rows[0]) == []


def test_one_slow_row_is_not_named() -> None:
    advice = Advice()
    rows = [*[shares(data=0.5)] * 9, shares(), *[shares(data=0.5)] * 9]
    assert [line for row in rows for line in advice.hear(row)] == []
