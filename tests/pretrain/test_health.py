from dataclasses import replace

import pytest

from cp2fast.pretrain.health import Health
from cp2fast.pretrain.metrics import Metrics

HEALTHY = Metrics(
    step=1,
    epoch=1.0,
    loss=4.0,
    loss_instance=3.0,
    loss_dense=5.0,
    accuracy_instance=0.5,
    accuracy_dense=0.9,
    similarity_gap=0.2,
    embedding_std=0.08,
    effective_rank=60.0,
    effective_rank_dense=40.0,
    alignment=0.3,
    uniformity=-3.5,
    queue_fill=1.0,
    read_retries=0,
    lr=0.01,
    images_per_second=100.0,
    data_wait=0.1,
    time={"data": 0.1, "step": 0.9, "save": 0.0, "evaluate": 0.0, "log": 0.0, "start": 0.0},
)
STEPS = 100


def warnings(**sick: float) -> list[str]:
    """Of a run that is healthy for 60 steps and sick for 40."""
    health = Health(embedding=128, queue=65_536, total_steps=STEPS)
    said = []
    for step in range(1, STEPS + 1):
        row = replace(HEALTHY, step=step, **(sick if step > 60 else {}))
        said += [f"{step}: {warning}" for warning in health.check(row)]
    return said


def test_a_healthy_run_hears_nothing() -> None:
    assert warnings() == []


@pytest.mark.parametrize(
    ("sick", "word"),
    [
        ({"embedding_std": 0.001}, "collapsed"),
        ({"effective_rank": 1.5}, "one direction"),
        ({"effective_rank_dense": 1.2}, "dense features have collapsed"),
        ({"loss_instance": 11.2}, "no better than a guess"),
        ({"similarity_gap": -0.01}, "similarity_gap"),
    ],
)
def test_each_sickness_is_named_once_after_ten_logged_steps(
    sick: dict[str, float], word: str
) -> None:
    [warning] = warnings(**sick)
    assert warning.startswith("70: ")
    assert word in warning


def test_a_young_run_may_look_collapsed() -> None:
    health = Health(embedding=128, queue=65_536, total_steps=1000)
    for step in range(1, 101):
        sick = replace(HEALTHY, step=step, embedding_std=0.0, loss_instance=20.0)
        assert health.check(sick) == []
