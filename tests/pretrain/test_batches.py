import numpy as np
import pytest
import torch

from cp2fast.batch import RaggedBatch
from cp2fast.config import ModelSettings, PretrainSettings, TrainSettings
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.data.order import plan
from cp2fast.pretrain.batches import compose, image_size, split_steps
from tests.copypaste.cases import photo


def test_the_batches_of_a_step_are_its_numbers_in_order() -> None:
    steps = [np.arange(6), np.arange(10, 16)]
    batches = [batch.tolist() for batch in split_steps(iter(steps), 2, independent=False)]
    assert batches == [[0, 1, 2], [3, 4, 5], [10, 11, 12], [13, 14, 15]]


def test_independent_backgrounds_stay_with_their_foregrounds() -> None:
    words = {"seed": 0, "count": 20, "start": 0, "stop": 3, "independent": True}
    whole = plan(batch_size=6, **words)
    for numbers, first, second in zip(
        whole, *[split_steps(plan(batch_size=6, **words), 2, True)] * 2, strict=True
    ):
        samples = numbers.reshape(3, 6).T.tolist()
        assert first.reshape(3, 3).T.tolist() + second.reshape(3, 3).T.tolist() == samples


def test_one_batch_a_step_is_the_plan_itself() -> None:
    numbers = np.arange(9)
    assert next(split_steps(iter([numbers]), 1, independent=True)).tolist() == numbers.tolist()


def test_images_grow_over_the_run_only_when_asked() -> None:
    def sizes(start: int | None) -> list[int]:
        settings = PretrainSettings(
            model=ModelSettings(size=224), train=TrainSettings(resolution=start)
        )
        return [image_size(settings, step, 9) for step in range(9)]

    assert sizes(None) == [224] * 9
    assert sizes(160) == [160] * 3 + [192] * 3 + [224] * 3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_is_drawn_for_the_epoch_of_its_step_in_the_size_of_its_step(
    accumulate: int,
) -> None:
    train = TrainSettings(resolution=32, gradient_accumulation_steps=accumulate)
    settings = PretrainSettings(model=ModelSettings(size=96), train=train)
    batch = RaggedBatch.pack([photo(60, 50, seed) for seed in range(4)], range(4))
    steps = [step for step in range(3, 9) for _ in range(accumulate)]
    made = compose(
        iter([batch] * len(steps)),
        settings,
        seed=7,
        start=3,
        steps_per_epoch=4,
        total_steps=9,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    for step, (pairs, images) in zip(steps, made, strict=True):
        size = (32, 64, 96)[step // 3]
        expected = copy_paste(batch, sample_parameters(7, step // 4, batch, size), size)
        assert torch.equal(pairs.query, expected.query)
        assert torch.equal(pairs.key, expected.key)
        assert images == [0, 1, 2, 3]
