from pathlib import Path

import torch

from cp2fast.config import FinetuneSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.finetune.loader import batches_of_one_size, crop_batches
from cp2fast.labels.open import open_labelled


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
        made = list(crop_batches(data, settings, range(1, 4), torch.device("cpu")))
        assert len(made) == 3 * accumulate
        images = torch.cat([batch.images for batch, _ in made])
        return [number for _, numbers in made for number in numbers], images

    numbers, images = crops(4, 1)
    again, same = crops(2, 2)
    assert again == numbers
    torch.testing.assert_close(same, images, rtol=0, atol=0)
