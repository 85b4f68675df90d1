"""The fine-tuning loss: the original's golden numbers, and the mean over valid pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from cp2fast.finetune.loss import balanced_weights, dice_loss, segmentation_loss
from tests.golden import rule


@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_over_all_pixels_it_is_the_originals(golden: Path, precision: str) -> None:
    with np.load(golden / "finetune_r50_aspp.npz") as stored:
        cells = torch.from_numpy(stored[f"{precision}_logits"])
        expected = stored[f"{precision}_eval_loss"].item()
    _, labels = rule.finetune_input()
    labels = torch.from_numpy(labels).squeeze(1)
    logits = interpolate(cells, labels.shape[1:], mode="bilinear")
    tolerance = 1e-9 if precision == "f64" else 5e-6
    assert segmentation_loss(logits, labels, "all").item() == pytest.approx(expected, abs=tolerance)
    valid = (labels != 255).double().mean().item()
    assert valid < 1
    over_valid = segmentation_loss(logits, labels, "valid").item()
    assert over_valid * valid == pytest.approx(expected, abs=tolerance)


def test_over_valid_pixels_it_is_torchs_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 24, 40, generator=generator)
    labels = torch.randint(4, (2, 24, 40), generator=generator).byte()
    labels[:, :7] = 255
    expected = cross_entropy(logits, labels.long(), ignore_index=255)
    torch.testing.assert_close(segmentation_loss(logits, labels, "valid"), expected)


@pytest.mark.parametrize("mean", ["valid", "all"])
def test_an_image_without_labels_has_no_loss_and_no_gradient(mean: str) -> None:
    logits = torch.randn(1, 4, 24, 40, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 24, 40), 255, dtype=torch.uint8), mean)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 24, 40, generator=generator)
    labels = torch.randint(3, (2, 24, 40), generator=generator).byte()  # the fourth is nowhere
    labels[:, :7] = 255
    return logits, labels


def test_weights_by_class_are_torchs() -> None:
    logits, labels = drawn()
    weight = torch.tensor([0.5, 1.0, 4.0, 2.0])
    expected = cross_entropy(logits, labels.long(), weight, ignore_index=255)
    torch.testing.assert_close(segmentation_loss(logits, labels, "valid", weight), expected)


@pytest.mark.parametrize("mean", ["valid", "all"])
def test_no_value_is_asked_of_the_device_which_a_step_would_wait_for(mean: str) -> None:
    """Shown on torch's device that has shapes and no values."""
    logits, labels = (tensor.to("meta") for tensor in drawn())
    weight = torch.ones(4, device="meta")
    loss = segmentation_loss(logits.requires_grad_(), labels, mean, weight, dice_weight=0.5)
    loss.backward()
    assert logits.grad is not None


def test_dice_is_that_of_its_definition() -> None:
    logits, labels = drawn()
    probability, coefficients = logits.softmax(dim=1), []
    for kind in range(3):
        valid = labels != 255
        inside = (labels == kind)[valid].float()
        predicted = probability[:, kind][valid]
        coefficients.append(2 * (inside * predicted).sum() / (inside.sum() + predicted.sum()))
    expected = 1 - torch.stack(coefficients).mean()
    torch.testing.assert_close(dice_loss(logits, labels.long()), expected)
    both = segmentation_loss(logits, labels, "valid", dice_weight=0.5)
    alone = segmentation_loss(logits, labels, "valid")
    torch.testing.assert_close(both, alone + 0.5 * expected)


def test_a_perfect_segmentation_has_no_dice_loss_and_an_ignored_one_no_gradient() -> None:
    labels = drawn()[1].long()
    certain = torch.nn.functional.one_hot(labels.clamp(max=3), 4).movedim(-1, 1) * 40.0
    assert dice_loss(certain, labels).item() == pytest.approx(0, abs=1e-6)
    logits = torch.randn(2, 4, 24, 40, requires_grad=True)
    dice_loss(logits, torch.full((2, 24, 40), 255)).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_rare_classes_weigh_more_and_all_pixels_together_as_before() -> None:
    pixels = [900_000, 90_000, 10_000, 0]
    weights = balanced_weights(pixels)
    assert weights[0] < weights[1] < weights[2]
    assert weights[3] == 1
    mean = sum(w * p for w, p in zip(weights, pixels, strict=True)) / sum(pixels)
    assert mean == pytest.approx(1)
    assert weights[2] / weights[0] == pytest.approx(np.log(1.02 + 0.9) / np.log(1.02 + 0.01))
