"""Crops that workers cut: those of threads, and what they cannot use is told in one line."""

from pathlib import Path

import pytest
import torch

from cp2fast.config import FinetuneSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.finetune.loader import crop_batches
from cp2fast.labels.open import open_labelled

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def test_they_are_the_crops_of_threads_until_a_mask_cannot_be_read(tmp_path: Path) -> None:
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
