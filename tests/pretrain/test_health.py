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


def warnings(first: int = 61, **sick: float) -> list[str]:
    """Of a run that is sick from step ``first`` on."""
    health = Health(embedding=128, queue=65_536, total_steps=STEPS)
    said = []
    for step in range(1, STEPS + 1):
        row = replace(HEALTHY, step=step, **(sick if step >= first else {}))
        said += [f"{step}: {warning}" for warning in health.check(row)]
    return said


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"embedding_std": 0.002},  # of 0.088
        {"effective_rank": 2.0},
        {"effective_rank_dense": 2.0},
        {"loss_instance": 11.0},  # of 11.09
        {"loss_instance": 11.2, "queue_fill": 0.99},  # random vectors are still among the keys
        {"similarity_gap": 0.001},
    ],
)
def test_a_healthy_run_hears_nothing_even_near_a_sickness(row: dict[str, float]) -> None:
    assert warnings(first=1, **row) == []


@pytest.mark.parametrize(
    ("sick", "young", "word"),
    [
        ({"embedding_std": 0.001}, 10, "collapsed"),
        ({"embedding_std": 0.001, "effective_rank": 1.5}, 10, "collapsed"),
        ({"effective_rank": 1.5}, 20, "one direction"),
        ({"effective_rank_dense": 1.2}, 20, "dense features have collapsed"),
        ({"loss_instance": 11.2}, 20, "no better than a guess"),
        ({"similarity_gap": -0.01}, 50, "similarity_gap"),
    ],
)
def test_each_sickness_is_named_once_after_ten_logged_steps_of_a_run_that_is_not_young(
    sick: dict[str, float], young: int, word: str
) -> None:
    for first, named in ((61, 70), (1, young + 10)):
        [warning] = warnings(first, **sick)
        assert warning.startswith(f"{named}: ")
        assert word in warning
