"""The segmentation network, fresh and as the original fine-tunes it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cp2fast.config import ModelSettings
from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone, channels, feature_map
from cp2fast.model.head import FcnHead
from cp2fast.model.segmenter import Segmenter, build_segmenter
from tests.golden import rule

IGNORED = 255
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}


@pytest.mark.parametrize("head", ["aspp", "fcn"])
def test_logits_and_embedding_are_at_feature_resolution(head: str) -> None:
    settings = ModelSettings(backbone="resnet18", head=head, head_channels=8, embedding=5)
    network = build_segmenter(settings, num_classes=3)
    images = torch.randn(2, 3, 64, 96)
    assert network(images).shape == (2, 3, 4, 6)
    assert network.embed(images).shape == (2, 5, 4, 6)
    assert network.stride == 16


def test_segformers_logits_are_at_the_finest_stage_and_its_embedding_is_at_16_pixels() -> None:
    settings = ModelSettings(
        backbone="test_convnext", head="segformer", head_channels=8, embedding=5, size=64
    )
    network = build_segmenter(settings, num_classes=3).eval()
    assert (network.stride, network.embedding_stride, network.feature_stride) == (4, 16, 32)
    for height, width in ((64, 96), (70, 97)):
        images = torch.randn(2, 3, height, width)
        cells = [[-(-side // stride) for side in (height, width)] for stride in (4, 16)]
        assert network(images).shape == (2, 3, *cells[0])
        assert network.embed(images).shape == (2, 5, *cells[1])


def test_a_plain_transformer_has_no_stages_for_segformer() -> None:
    settings = ModelSettings(backbone="test_vit", head="segformer")
    with pytest.raises(UserError, match=r"model\.head=segformer with model\.backbone=test_vit"):
        build_segmenter(settings)


def test_what_lies_beyond_an_image_moves_no_cell() -> None:
    """A ConvNeXt cuts off what fills no cell: padding keeps it, and leaves the rest as it is."""
    backbone = build_backbone("test_convnext", 64).eval()
    images = torch.zeros(1, 3, 80, 96)  # whole cells of 16 pixels
    images[..., :70, :90] = torch.randn(1, 3, 70, 90)
    with torch.no_grad():
        whole, cut = feature_map(backbone, images), feature_map(backbone, images[..., :70, :90])
    assert cut.shape[2:] == (5, 6)
    torch.testing.assert_close(cut, whole)


PATCHES: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"depth": 1},
    "vit_small_patch14_reg4_dinov2": {"depth": 1},
    "vit_small_patch16_dinov3": {"depth": 1},
    "test_convnext": {},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1), "num_heads": (1, 2), "embed_dim": 24},
}


@pytest.mark.parametrize("backbone", PATCHES)
def test_logits_lie_where_the_backbone_saw_their_cells(backbone: str) -> None:
    """An image of no whole cells is labelled as the corner of the image that fills them."""
    body = build_backbone(backbone, 56, **PATCHES[backbone])
    network = Segmenter(body, FcnHead(channels(body), 8, 4, 3)).eval()
    cell = network.stride
    images = torch.zeros(2, 3, 4 * cell, 6 * cell)
    height, width = 4 * cell - 5, 6 * cell - 7
    images[..., :height, :width] = torch.randn(2, 3, height, width)
    with torch.no_grad():
        whole = F.interpolate(network(images), images.shape[2:], mode="bilinear")
        logits = network(images[..., :height, :width])
    assert logits.shape == (2, 3, 4, 6)
    found = network.upsample(logits, (height, width))
    torch.testing.assert_close(found, whole[..., :height, :width])


def test_all_stages_keep_their_place_in_segformers_head() -> None:
    settings = ModelSettings(backbone="test_convnext", head="segformer", head_channels=8, size=64)
    network = build_segmenter(settings, num_classes=3).eval()
    images = torch.zeros(1, 3, 96, 128)
    images[..., :70, :101] = torch.randn(1, 3, 70, 101)
    with torch.no_grad():
        whole, cut = network(images), network(images[..., :70, :101])
    torch.testing.assert_close(cut, whole[..., :18, :26])


def test_a_resnets_logits_span_the_image_and_are_never_halves() -> None:
    network = build_segmenter(ModelSettings(backbone="test_resnet", head_channels=8)).eval()
    logits = torch.randn(1, 21, 5, 6).bfloat16()
    expected = F.interpolate(logits.float(), (70, 90), mode="bilinear")
    assert torch.equal(network.upsample(logits, (70, 90)), expected)


def test_logits_are_regularised_by_dropout_and_the_embedding_is_not() -> None:
    settings = ModelSettings(backbone="resnet18", head_channels=8)
    network = build_segmenter(settings).eval()
    network.decode_head.dropout.train()
    images = torch.randn(2, 3, 64, 64)
    assert not torch.equal(network(images), network(images))
    assert torch.equal(network.embed(images), network.embed(images))


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["f32", "f64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(scope="module")
def network(golden: Path, dtype: torch.dtype) -> Segmenter:
    """The original's fine-tuning network; it has no contrast, so ours keeps its own."""
    network = build_segmenter(ModelSettings(size=256))
    lines = (golden / "state_dict_keys_finetune_r50_aspp.txt").read_text().splitlines()
    original = [line.split("\t")[0] for line in lines if not line.startswith("#")]
    state = network.state_dict()
    assert set(original) == {name for name in state if "contrast_conv" not in name}
    for name in original:
        state[name].copy_(torch.from_numpy(rule.tensor_for(name, state[name].shape)))
    return network.to(dtype)


@pytest.fixture(scope="module")
def original(golden: Path, dtype: torch.dtype) -> dict[str, np.ndarray]:
    prefix = "f64_" if dtype == torch.float64 else "f32_"
    with np.load(golden / "finetune_r50_aspp.npz") as stored:
        return {name.removeprefix(prefix): stored[name] for name in stored}


@pytest.mark.slow
def test_the_original_logits_are_reproduced(
    network: Segmenter, original: dict[str, np.ndarray], dtype: torch.dtype
) -> None:
    images, labels = (torch.from_numpy(array) for array in rule.finetune_input())
    images, tolerance = images.to(dtype), TOLERANCE[dtype]
    network.eval()
    with torch.no_grad():
        np.testing.assert_allclose(
            rule.stats(feature_map(network.backbone, images)),
            original["feat3_stats"],
            rtol=tolerance,
            atol=tolerance,
        )
        logits = network(images)
    np.testing.assert_allclose(logits, original["logits"], rtol=0, atol=tolerance)
    loss, accuracy = original_loss(logits, labels)
    assert loss.item() == pytest.approx(original["eval_loss"].item(), abs=tolerance)
    assert accuracy == pytest.approx(original["eval_acc"].item(), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64], ids=["f64"], indirect=True)
def test_two_original_training_steps_are_reproduced(
    network: Segmenter, original: dict[str, np.ndarray], dtype: torch.dtype
) -> None:
    images, labels = (torch.from_numpy(array) for array in rule.finetune_input())
    network = copy.deepcopy(network).train()
    network.decode_head.dropout.p = 0.0
    optimizer = torch.optim.SGD(network.parameters(), lr=0.003, momentum=0.9)
    parameters = dict(network.named_parameters())
    for step, (expected_loss, expected_accuracy) in enumerate(original["train_loss_acc"]):
        loss, accuracy = original_loss(network(images.to(dtype)), labels)
        assert loss.item() == pytest.approx(expected_loss, abs=TOLERANCE[dtype])
        assert accuracy == pytest.approx(expected_accuracy, abs=0.01)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for name, expected in zip(
                original["grad_names"], original["train_grad_checksum"], strict=True
            ):
                gradient = parameters[str(name)].grad
                assert gradient is not None
                allowed = (1e-9 if dtype == torch.float64 else 1e-2) * expected[1]
                assert abs(gradient.norm().item() - expected[1]) <= allowed, name
                assert abs(rule.checksum(gradient)[2] - expected[2]) <= 10 * allowed, name
        optimizer.step()


def original_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """Cross-entropy and accuracy in percent, over all pixels, the ignored ones included."""
    logits, labels = F.interpolate(logits, labels.shape[2:], mode="bilinear"), labels.squeeze(1)
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").mean()
    return loss, 100 * (logits.argmax(dim=1) == labels).double().mean().item()
