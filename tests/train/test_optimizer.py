"""Optimisers that go on from a checkpoint under the settings of now, and survive an overflow."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from cp2fast.config import TrainSettings
from cp2fast.train.optimizer import build_optimizer, restore_optimizer


def optimizer(parameter: nn.Parameter, **train: object) -> torch.optim.Optimizer:
    return build_optimizer([parameter], TrainSettings(**train))


def test_a_restored_optimizer_has_the_momentum_buffers_of_before_and_the_settings_of_now() -> None:
    parameter = nn.Parameter(torch.ones(3))
    before = optimizer(parameter, weight_decay=0.5, momentum=0.9)
    parameter.grad = torch.full((3,), 2.0)
    before.step()
    after = optimizer(parameter, weight_decay=0.25, momentum=0.75)
    restore_optimizer(after, before.state_dict())
    [group] = after.param_groups
    assert (group["weight_decay"], group["momentum"]) == (0.25, 0.75)
    buffer = after.state[parameter]["momentum_buffer"]
    torch.testing.assert_close(buffer, torch.full((3,), 2.0 + 0.5))


def test_adamw_decays_weights_as_torchs() -> None:
    ours, theirs = (nn.Parameter(torch.ones(3)) for _ in range(2))
    for parameter, adamw in (
        (ours, optimizer(ours, optimizer="adamw", lr=0.01, weight_decay=0.1)),
        (theirs, torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)),
    ):
        parameter.grad = torch.full((3,), 2.0)
        adamw.step()
    torch.testing.assert_close(ours, theirs)


@pytest.fixture
def uninitialised_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("uninitialised_memory_is_nan")
def test_a_first_float16_step_that_overflows_leaves_no_trace() -> None:
    parameter = nn.Parameter(torch.ones(1000))
    ours = optimizer(parameter, precision="fp16", weight_decay=0, lr=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for gradient in (torch.inf, 4.0):
        parameter.grad = torch.full_like(parameter, gradient)
        scaler.scale(torch.ones(1))
        scaler.step(ours)
        scaler.update()
    torch.testing.assert_close(parameter.detach(), torch.full((1000,), -1.0))
