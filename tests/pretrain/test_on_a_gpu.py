"""Runs on a GPU against the same runs on the CPU, stopped ones and cached ones."""

import signal
from pathlib import Path

import pytest

from tests.pretrain.runs import command, losses, run_apart, start, wait_for_step

pytestmark = pytest.mark.gpu

ON_GPU = "train.device=cuda"
PLAIN = ("train.compile=off", "train.precision=fp32")


def run_of(photos: Path, out: Path, *settings: str) -> list[tuple[float, ...]]:
    """The losses of eight steps."""
    done = run_apart(out, photos, "train.steps=8", *settings)
    assert done.returncode == 0, done.stderr
    return losses(out)


def close(ours: list[tuple[float, ...]], theirs: list[tuple[float, ...]], within: float) -> bool:
    """Whether each step's losses are the same within a relative tolerance."""
    return all(a[:4] == pytest.approx(b[:4], rel=within) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def on_gpu(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, ...]]:
    return run_of(photos, tmp_path_factory.mktemp("gpu") / "run", ON_GPU, *PLAIN)


def test_float32_gives_the_losses_of_the_cpu(
    photos: Path, tmp_path: Path, on_gpu: list[tuple[float, ...]]
) -> None:
    on_cpu = run_of(photos, tmp_path / "cpu", *PLAIN)
    # Convolutions on the GPU run in TF32, and what they round grows from step to step.
    assert close(on_gpu[:1], on_cpu[:1], within=2e-3)
    assert close(on_gpu, on_cpu, within=0.05)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("compiled", ["off", "on"])
def test_half_precision_and_compilation_give_nearly_the_same_losses(
    precision: str, compiled: str, photos: Path, tmp_path: Path, on_gpu: list[tuple[float, ...]]
) -> None:
    settings = (ON_GPU, f"train.precision={precision}", f"train.compile={compiled}")
    ours = run_of(photos, tmp_path / "run", *settings)
    assert close(ours[:1], on_gpu[:1], within=0.02)
    assert close(ours, on_gpu, within=0.1)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    photos: Path, tmp_path: Path, on_gpu: list[tuple[float, ...]]
) -> None:
    out = tmp_path / "run"
    process = start(command(out, photos, "train.steps=8", ON_GPU, *PLAIN))
    wait_for_step(out, 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0
    done = run_apart(out, photos, "train.steps=8", ON_GPU, *PLAIN, "--resume")
    assert done.returncode == 0, done.stderr
    assert close(losses(out), on_gpu, within=1e-3)


@pytest.mark.parametrize("cache", ["gpu", "host", "off"])
def test_what_the_cache_holds_does_not_matter(
    cache: str, photos: Path, tmp_path: Path, on_gpu: list[tuple[float, ...]]
) -> None:
    ours = run_of(photos, tmp_path / "run", ON_GPU, *PLAIN, f"data.cache={cache}")
    assert ours[0] == on_gpu[0]
    assert close(ours, on_gpu, within=1e-3)
