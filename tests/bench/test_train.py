import pytest
import torch

from cp2fast.bench.train import bench_train, flops_per_sample
from cp2fast.config import DataSettings, ModelSettings, PretrainSettings, TrainSettings

TINY = PretrainSettings(
    data=DataSettings(batch_size=4),
    model=ModelSettings(backbone="test_resnet", head_channels=16, size=96, queue=64),
    train=TrainSettings(device="cpu"),
)


def test_both_systems_are_measured_and_do_the_same() -> None:
    report = bench_train(TINY, torch.device("cpu"), rounds=2, seconds=0.01)
    assert [result.system for result in report.results] == ["original", "cp2fast"]
    assert all(result.images_per_second > 0 for result in report.results)
    assert all(result.share_of_ceiling > 0 for result in report.results)
    losses = report.extra["first_loss"]
    assert losses["cp2fast"] == pytest.approx(losses["original"], rel=1e-4)
    assert "matrix products" in report.bottleneck


def test_steps_are_of_one_batch_also_where_a_run_accumulates() -> None:
    """The original does not accumulate, so the same step is compared."""
    accumulating = TINY.with_values("train", gradient_accumulation_steps=4)
    report = bench_train(accumulating, torch.device("cpu"), rounds=1, seconds=0)
    losses = report.extra["first_loss"]
    assert losses["cp2fast"] == pytest.approx(losses["original"], rel=1e-4)


def test_flops_of_resnet50_are_those_of_the_layers() -> None:
    settings = PretrainSettings()
    plain, ours = (flops_per_sample(settings, p, "cpu") / 1e9 for p in (True, False))
    assert plain == pytest.approx(114.5, abs=0.1)
    # Three branches of 2048 x 512 channels on 196 cells, four passes, less 49, 82 and 89 %; and the
    # bottleneck's products with 512 pooled channels, once instead of at 196 cells.
    branch = 2 * 196 * 2048 * 512 * 9 / 1e9
    pooled = 2 * 195 * 512 * 512 * 9 / 1e9
    less = 4 * branch * (0.490 + 0.816 + 0.889) + 4 * pooled
    assert plain - ours == pytest.approx(less, rel=1e-3)
    # A GPU leaves out no padding of dilation 6.
    on_gpu = flops_per_sample(settings, False, "cuda") / 1e9
    assert on_gpu - ours == pytest.approx(4 * branch * 0.490, rel=1e-3)
