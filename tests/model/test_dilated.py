"""The convolution without padding's taps against torch's own, on maps of every kind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cp2fast.model.dilated import DilatedConv2d, dilated_conv3x3, share_in_range


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(map_: Tensor, weight: Tensor, dilation: int) -> Tensor:
    return F.conv2d(map_, weight, padding=dilation, dilation=dilation)


@given(height=st.integers(1, 9), width=st.integers(1, 9), dilation=st.integers(1, 10))
@settings(max_examples=60)
def test_results_and_gradients_are_those_of_the_plain_convolution(
    height: int, width: int, dilation: int
) -> None:
    map_ = random(2, 5, height, width).requires_grad_()
    weight = random(4, 5, 3, 3, seed=1).requires_grad_()
    gradient = random(2, 4, height, width, seed=2)
    ours, theirs = dilated_conv3x3(map_, weight, dilation), plain(map_, weight, dilation)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (map_, weight), gradient),
        torch.autograd.grad(theirs, (map_, weight), gradient),
    )


@pytest.mark.parametrize("dilation", [6, 12, 18])
def test_in_float32_at_the_size_of_aspp_they_differ_by_rounding(dilation: int) -> None:
    map_ = random(2, 256, 14, 14).float().to(memory_format=torch.channels_last).requires_grad_()
    weight = (random(64, 256, 3, 3) / 48).float().requires_grad_()
    gradient = random(2, 64, 14, 14, seed=2).float()
    ours, theirs = dilated_conv3x3(map_, weight, dilation), plain(map_, weight, dilation)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, (map_, weight), gradient),
        torch.autograd.grad(theirs, (map_, weight), gradient),
        strict=True,
    ):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_the_share_in_range_counts_taps_on_cells() -> None:
    for dilation, height, width in [(6, 14, 14), (12, 14, 14), (18, 14, 14), (2, 3, 7), (1, 1, 1)]:
        cells = torch.ones(1, 1, height, width)
        hits = plain(cells, torch.ones(1, 1, 3, 3), dilation).sum() / (9 * height * width)
        assert share_in_range(dilation, height, width) == pytest.approx(hits.item())
    shares = [round(share_in_range(d, 14, 14), 2) for d in (6, 12, 18)]
    assert shares == [0.51, 0.18, 0.11]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("side", [7, 40])
def test_the_layer_has_the_parameters_and_results_of_a_convolution(train: bool, side: int) -> None:
    layer = DilatedConv2d(5, 4, dilation=6).train(train)
    convolution = torch.nn.Conv2d(5, 4, 3, padding=6, dilation=6, bias=False)
    convolution.load_state_dict(layer.state_dict())
    map_ = random(2, 5, side, side).float()
    torch.testing.assert_close(layer(map_), convolution(map_), atol=1e-5, rtol=1e-5)


def test_under_autocast_products_are_in_bfloat16_and_gradients_reach_float32_weights() -> None:
    layer = DilatedConv2d(64, 8, dilation=6)
    map_ = random(2, 64, 8, 8).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = layer(map_)
        theirs = plain(map_, layer.weight, 6)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)
    ours.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_the_op_keeps_its_promises_to_the_compiler() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        map_ = random(2, 5, 7, 6).to(memory_format=layout).requires_grad_()
        weight = random(4, 5, 3, 3).to(memory_format=layout).requires_grad_()
        torch.library.opcheck(torch.ops.cp2fast.dilated_conv3x3, (map_, weight, 4))


def test_a_weight_of_another_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="weight"):
        dilated_conv3x3(random(1, 2, 3, 3), random(2, 2, 3, 3).float(), 1)
