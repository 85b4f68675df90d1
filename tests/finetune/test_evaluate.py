"""Scores against torchmetrics and by hand, and an evaluation that a stop breaks off."""

from pathlib import Path

import pytest
import torch
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassJaccardIndex,
)

from cp2fast.config import FinetuneSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.finetune.build import build
from cp2fast.finetune.evaluate import count_confusion, scores
from cp2fast.run_folder import RunFolder
from cp2fast.train.interrupt import StopAsked
from cp2fast.train.processes import Processes

CLASSES = ("a", "b", "c", "d", "e")


def test_a_stop_breaks_it_off_and_leaves_no_result(tmp_path: Path) -> None:
    generate_scenes(tmp_path / "scenes", 15, seed=0)
    model = {"backbone": "test_resnet", "head_channels": 8, "size": 32}
    settings = FinetuneSettings.model_validate(
        {"data": {"root": tmp_path / "scenes", "batch_size": 2}, "model": model}
    )
    alone = Processes.alone(torch.device("cpu"))
    task = build(settings, RunFolder(tmp_path / "run"), alone)
    assert len(task.data.val) > 2  # more than a batch
    calls = []

    def stop() -> None:
        calls.append(1)
        raise StopAsked

    task.network.train()
    with pytest.raises(StopAsked):
        task.evaluate(3, stop)
    assert len(calls) == 1
    assert task.result is None
    assert task.network.training


def random_maps(seed: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (3, 41, 29), generator=generator)
    noise = torch.randint(num_classes, labels.shape, generator=generator)
    predicted = torch.where(torch.rand(labels.shape, generator=generator) < 0.6, labels, noise)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    return predicted, labels


def test_a_case_done_by_hand() -> None:
    labels = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 255]])
    predicted = torch.tensor([[0, 0, 1, 1], [1, 0, 0, 2]])
    confusion = count_confusion(predicted, labels, 5)
    expected = torch.zeros(5, 5, dtype=torch.int64)
    expected[0, 0], expected[0, 1], expected[1, 1], expected[1, 0], expected[2, 0] = 2, 1, 2, 1, 1
    assert torch.equal(confusion, expected)
    result = scores(confusion, CLASSES)
    # a: 2 of the 5 that are a or called so; b: 2 of 4; c: 0 of 1; d and e are nowhere.
    assert result.per_class == {"a": 2 / 5, "b": 2 / 4, "c": 0.0, "d": None, "e": None}
    assert result.miou == pytest.approx((2 / 5 + 2 / 4 + 0) / 3)
    assert result.pixel_accuracy == pytest.approx(4 / 7)


@pytest.mark.parametrize("seed", range(3))
def test_torchmetrics_finds_the_same(seed: int) -> None:
    predicted, labels = random_maps(seed, 5)
    result = scores(count_confusion(predicted, labels, 5), CLASSES)
    options = {"num_classes": 5, "ignore_index": 255}
    per_class = MulticlassJaccardIndex(**options, average="none")(predicted, labels)
    assert list(result.per_class.values()) == pytest.approx(per_class.tolist(), abs=1e-6)
    miou = MulticlassJaccardIndex(**options, average="macro")(predicted, labels)
    assert result.miou == pytest.approx(miou.item(), abs=1e-6)
    accuracy = MulticlassAccuracy(**options, average="micro")(predicted, labels)
    assert result.pixel_accuracy == pytest.approx(accuracy.item(), abs=1e-6)
    dice = MulticlassF1Score(**options, average="none")(predicted, labels)  # Dice is F1 of pixels
    assert list(result.per_class_dice.values()) == pytest.approx(dice.tolist(), abs=1e-6)
    assert result.dice == pytest.approx(dice.mean().item(), abs=1e-6)


def test_counts_add_up_over_batches_and_beyond_32_bits() -> None:
    predicted, labels = random_maps(0, 5)
    parts = sum(count_confusion(p, lab, 5) for p, lab in zip(predicted, labels, strict=True))
    whole = count_confusion(predicted, labels, 5)
    assert torch.equal(parts, whole)
    assert whole.dtype == torch.int64
    assert scores(whole * 2**40, CLASSES).miou == scores(whole, CLASSES).miou


def test_labels_may_be_bytes() -> None:
    predicted, labels = random_maps(0, 21)
    assert torch.equal(
        count_confusion(predicted, labels.byte(), 21), count_confusion(predicted, labels, 21)
    )


def test_a_class_only_predicted_counts_as_zero() -> None:
    confusion = count_confusion(torch.tensor([0, 1]), torch.tensor([0, 0]), 5)
    result = scores(confusion, CLASSES)
    assert result.per_class["b"] == 0.0
    assert result.miou == pytest.approx(0.25)


def test_nothing_labelled_gives_zero_and_not_nan() -> None:
    confusion = count_confusion(torch.tensor([0, 1]), torch.tensor([255, 255]), 5)
    result = scores(confusion, CLASSES)
    assert (result.miou, result.pixel_accuracy) == (0.0, 0.0)
    assert set(result.per_class.values()) == {None}


def test_boundary_scores_are_means_over_images_and_then_over_classes() -> None:
    nothing = torch.zeros(3, 3, dtype=torch.int64)
    sums = torch.tensor([[1.5, 2], [0.25, 1], [0, 0]], dtype=torch.float64)
    result = scores(nothing, CLASSES[:3], sums)
    assert result.per_class_boundary_f == {"a": 0.75, "b": 0.25, "c": None}
    assert result.boundary_f == 0.5
    assert scores(nothing, CLASSES[:3], torch.zeros(3, 2)).boundary_f is None
    assert scores(nothing, CLASSES[:3]).per_class_boundary_f is None
