import pytest
import torch

from cp2fast.train.schedule import (
    cosine_by_epoch,
    growing_size,
    polynomial,
    scaled_by_batch,
)


def test_it_is_torchs_cosine_annealing_stepped_once_an_epoch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.015)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for epoch in range(20):
        expected = optimizer.param_groups[0]["lr"]
        for step in (epoch * 7, epoch * 7 + 6):
            assert cosine_by_epoch(0.015, step, 7, 140) == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        scheduler.step()


def test_a_run_of_less_than_an_epoch_keeps_the_peak() -> None:
    assert cosine_by_epoch(0.1, 2, steps_per_epoch=50, total_steps=3) == 0.1


def test_the_learning_rate_grows_with_the_samples_a_step() -> None:
    assert scaled_by_batch(0.015, 256) == 0.015
    assert scaled_by_batch(0.015, 1024) == pytest.approx(0.06)


def test_images_grow_in_equal_stretches_and_stay_within_bounds() -> None:
    sizes = [growing_size(128, 224, 32, step, total_steps=8) for step in range(10)]
    assert sizes == [128, 128, 160, 160, 192, 192, 224, 224, 224, 224]
    assert growing_size(224, 224, 32, 0, 1) == 224


def test_the_polynomial_is_torchs_with_a_floor() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=50, power=0.9)
    for step in range(50):
        expected = 1e-4 + (0.003 - 1e-4) * optimizer.param_groups[0]["lr"]
        assert polynomial(0.003, 1e-4, 0.9, step, 50) == pytest.approx(expected)
        optimizer.step()
        scheduler.step()
    assert polynomial(0.003, 1e-4, 0.9, 50, 50) == 1e-4
