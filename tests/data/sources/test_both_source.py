"""Two sources share each batch; the one that is slower gets less."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from cp2fast.batch import RaggedBatch
from cp2fast.data.prefetch import keep_ahead
from cp2fast.data.sources.both_source import open_both


def source(numbers: Iterator[np.ndarray], ahead: int, seconds: float, sizes: list[int]):
    """Images of one pixel that holds their number; ``seconds`` for each."""

    def started() -> Iterator[np.ndarray]:
        for part in numbers:
            sizes.append(len(part))
            yield part

    for part in keep_ahead(started(), ahead):
        time.sleep(seconds * len(part))
        images = [torch.full((1, 1, 3), int(number), dtype=torch.uint8) for number in part]
        yield RaggedBatch.pack(images, part.tolist())


@pytest.mark.parametrize(("ahead_gpu", "ahead_cpu"), [(0, 3), (3, 0), (2, 2)])
def test_the_batches_are_those_of_the_plan_whoever_runs_ahead(ahead_gpu, ahead_cpu) -> None:
    plan = [np.random.default_rng(step).permutation(100)[:7] for step in range(20)]
    batches = open_both(
        iter(plan),
        lambda numbers: source(numbers, ahead_gpu, 0, []),
        lambda numbers: source(numbers, ahead_cpu, 0, []),
    )
    taken = list(batches)
    assert [batch.index.tolist() for batch in taken] == [numbers.tolist() for numbers in plan]
    for batch in taken:
        assert [int(batch.image(i)[0, 0, 0]) for i in range(7)] == batch.index.tolist()


def test_the_slower_one_gets_less_and_none_gets_nothing() -> None:
    gpu, cpu = [], []
    plan = (np.arange(20) for _ in range(60))
    list(
        open_both(
            plan,
            lambda numbers: source(numbers, 1, 0.0001, gpu),
            lambda numbers: source(numbers, 1, 0.002, cpu),
        )
    )
    assert gpu[0] == cpu[0] == 10
    assert cpu[-1] < 5 < 15 < gpu[-1]
    assert min(cpu) >= 1
    assert [a + b for a, b in zip(gpu, cpu, strict=True)] == [20] * 60
