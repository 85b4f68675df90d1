"""Crops in batches, of threads and of workers."""

from pathlib import Path

import pytest
import torch

from cp2fast.config import FinetuneSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.finetune.loader import batches_of_one_size, crop_batches
from cp2fast.labels.open import open_labelled

CPU = torch.device("cpu")


def test_images_of_one_size_that_follow_each_other_are_a_batch() -> None:
    sizes = [(4, 4), (4, 4), (4, 4), (4, 5), (4, 4)]
    pairs = [(torch.zeros(*size, 3), number) for number, size in enumerate(sizes)]
    batches = [[number for _, number in batch] for batch in batches_of_one_size(pairs, 2)]
    assert batches == [[0, 1], [2], [3], [4]]


def test_accumulated_batches_are_the_crops_of_one_large_batch(tmp_path: Path) -> None:
    generate_scenes(tmp_path / "scenes", 10, seed=5)

    def crops(batch_size: int, accumulate: int) -> tuple[list[int], torch.Tensor]:
        settings = FinetuneSettings.model_validate(
            {
                "data": {"batch_size": batch_size, "workers": 1, "short_side": 40},
                "model": {"size": 32},
                "train": {"gradient_accumulation_steps": accumulate},
            }
        )
        data = open_labelled(settings.data, tmp_path / "scenes")
        made = list(crop_batches(data, settings, range(1, 4), CPU))
        assert len(made) == 3 * accumulate
        images = torch.cat([batch.images for batch, _ in made])
        return [number for _, numbers in made for number in numbers], images

    numbers, images = crops(4, 1)
    again, same = crops(2, 2)
    assert again == numbers
    torch.testing.assert_close(same, images, rtol=0, atol=0)


@pytest.mark.slow
def test_crops_of_workers_are_those_of_threads_until_a_mask_cannot_be_read(tmp_path: Path) -> None:
    generate_scenes(tmp_path / "scenes", 12, seed=5)
    settings = FinetuneSettings.model_validate(
        {"data": {"batch_size": 3, "workers": 12, "short_side": 40}, "model": {"size": 32}}
    )
    data = open_labelled(settings.data, tmp_path / "scenes")
    steps = range(2, 12)  # some epochs, in two workers
    threads = list(crop_batches(data, settings, steps, CPU))
    workers = list(crop_batches(data, settings, steps, CPU, apart=True))
    for (ours, our_numbers), (theirs, their_numbers) in zip(workers, threads, strict=True):
        assert our_numbers == their_numbers
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)

    _, numbers = threads[4]
    broken = data.train[numbers[1]].mask
    broken.write_bytes(b"garbage")
    left = crop_batches(data, settings, steps, CPU, apart=True)
    with pytest.raises(UserError, match=broken.name):
        list(left)
