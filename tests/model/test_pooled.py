"""The convolution that multiplies a repeated vector once, against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cp2fast.model.pooled import PooledConv2d


def plain(pooled: Tensor, map_: Tensor, weight: Tensor) -> Tensor:
    repeated = pooled.expand(-1, -1, *map_.shape[2:])
    return F.conv2d(torch.cat([repeated, map_], dim=1), weight, padding=1)


@given(height=st.integers(1, 6), width=st.integers(1, 6), train=st.booleans())
@settings(max_examples=40)
def test_results_and_gradients_are_those_of_the_plain_convolution(
    height: int, width: int, train: bool
) -> None:
    layer = PooledConv2d(3, 5, 4).double().train(train)
    pooled = torch.randn(2, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    map_ = torch.randn(2, 5, height, width, dtype=torch.float64, requires_grad=True)
    ours, theirs = layer(pooled, map_), plain(pooled, map_, layer.weight)
    torch.testing.assert_close(ours, theirs)
    gradient, inputs = torch.randn_like(theirs), (pooled, map_, layer.weight)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, gradient), torch.autograd.grad(theirs, inputs, gradient)
    )


def test_in_float32_at_the_size_of_aspp_they_differ_by_rounding() -> None:
    layer = PooledConv2d(64, 256, 64).to(memory_format=torch.channels_last)
    pooled, map_ = torch.randn(2, 64, 1, 1), torch.randn(2, 256, 14, 14)
    ours, theirs = layer(pooled, map_), plain(pooled, map_, layer.weight)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_channels_last_map_gives_one() -> None:
    layer = PooledConv2d(3, 5, 4).to(memory_format=torch.channels_last)
    map_ = torch.randn(2, 5, 6, 7).to(memory_format=torch.channels_last)
    joined = layer(torch.randn(2, 3, 1, 1), map_)
    assert joined.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("train", [True, False])
def test_under_autocast_it_is_in_bfloat16_and_gradients_reach_float32_weights(train: bool) -> None:
    layer = PooledConv2d(32, 64, 8).train(train)
    pooled, map_ = torch.randn(2, 32, 1, 1), torch.randn(2, 64, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = layer(pooled, map_)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(
        ours.float(), plain(pooled, map_, layer.weight), atol=0.03, rtol=0.03
    )
    ours.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
