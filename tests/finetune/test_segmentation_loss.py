"""The fine-tuning loss: the original's golden numbers, and the mean over valid pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from cp2fast.finetune.loss import segmentation_loss
from tests.golden import rule


@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_over_all_pixels_it_is_the_originals(golden: Path, precision: str) -> None:
    with np.load(golden / "finetune_r50_aspp.npz") as stored:
        logits = torch.from_numpy(stored[f"{precision}_logits"])
        expected = stored[f"{precision}_eval_loss"].item()
    _, labels = rule.finetune_input()
    labels = torch.from_numpy(labels).squeeze(1)
    tolerance = 1e-9 if precision == "f64" else 5e-6
    assert segmentation_loss(logits, labels, "all").item() == pytest.approx(expected, abs=tolerance)
    valid = (labels != 255).double().mean().item()
    assert valid < 1
    over_valid = segmentation_loss(logits, labels, "valid").item()
    assert over_valid * valid == pytest.approx(expected, abs=tolerance)


def test_over_valid_pixels_it_is_torchs_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, generator=generator)
    labels = torch.randint(4, (2, 24, 40), generator=generator).byte()
    labels[:, :7] = 255
    upsampled = interpolate(logits, (24, 40), mode="bilinear")
    expected = cross_entropy(upsampled, labels.long(), ignore_index=255)
    torch.testing.assert_close(segmentation_loss(logits, labels, "valid"), expected)


def test_it_is_computed_in_single_precision_from_half() -> None:
    logits = torch.randn(1, 4, 3, 5).bfloat16()
    loss = segmentation_loss(logits, torch.zeros(1, 24, 40, dtype=torch.uint8), "valid")
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("mean", ["valid", "all"])
def test_an_image_without_labels_has_no_loss_and_no_gradient(mean: str) -> None:
    logits = torch.randn(1, 4, 3, 5, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 24, 40), 255, dtype=torch.uint8), mean)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
