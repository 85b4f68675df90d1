"""Whole runs beside their parts, at a tiny size, and the sums that are made of them."""

from pathlib import Path

import pytest
import torch

from cp2fast.bench.run import bench_run, losses
from cp2fast.bench.run_parts import Parts, data_set, idle_of, of_rows
from cp2fast.bench.timing import silent
from cp2fast.config import DataSettings, ModelSettings, PretrainSettings, TrainSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.run_folder import RunFolder, read_metrics
from cp2fast.train.accounts import ACCOUNTS
from tests.pretrain.runs import write_photos

pytestmark = pytest.mark.slow

TINY = PretrainSettings(
    data=DataSettings(batch_size=4, workers=1),
    model=ModelSettings(backbone="test_resnet", head_channels=16, size=32, queue=64),
    train=TrainSettings(device="cpu"),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory):
    images = list_images(write_photos(tmp_path_factory.mktemp("photos"), 6))
    return bench_run(TINY, images, torch.device("cpu"), 1, 0.01, counts=(5, 9))


def test_runs_and_parts_are_measured_for_each_data_set(report) -> None:
    of_sizes = [f"cp2fast-{name}-{count}" for count in (5, 9) for name in ("engine", "run")]
    assert [result.system for result in report.results] == ["cp2fast-ready", *of_sizes]
    assert all(result.images_per_second > 0 for result in report.results)
    assert report.settings["images"] == [5, 9]
    assert report.settings["cache"] == "off"
    assert report.ceilings["loader and op alone on 5 images"] > 0
    assert report.ceilings["the network's step alone"] > 0


@pytest.mark.parametrize(("system", "trains"), [("engine-4", False), ("run-4", True)])
def test_a_network_of_nothing_computes_nothing(tmp_path: Path, system: str, trains: bool) -> None:
    parts = Parts(TINY, torch.device("cpu"), tmp_path, silent)
    calls: list[str] = []
    parts.learner.network.register_forward_hook(lambda *_: calls.append(system))
    parts.systems({4: write_photos(tmp_path / "photos", 4)})[system](6)
    assert bool(calls) == trains


def test_the_time_of_a_run_is_told_by_account(report) -> None:
    for spent in report.extra["time"].values():
        assert sum(spent.values()) == pytest.approx(1, abs=0.01)


def test_the_host_is_told_what_each_part_of_a_step_costs_it(report) -> None:
    host = report.extra["host_milliseconds_per_step"]
    assert list(host) == ["draw", "check", "pack", "launch", "step", "log"]
    assert min(host.values()) > 0


def test_the_network_that_the_host_is_timed_with_is_the_compiled_one(tmp_path: Path) -> None:
    roots = {4: write_photos(tmp_path / "photos", 4)}
    parts = Parts(TINY, torch.device("cpu"), tmp_path, silent)
    assert parts.task(roots[4]).learner is parts.learner


def test_the_largest_loss_is_named(report) -> None:
    found = report.extra["losses"]
    assert [loss["share"] for loss in found] == sorted(loss["share"] for loss in found)
    assert report.bottleneck.startswith("largest loss: ")
    assert f"reaches {found[0]['share']:.0%} of what" in report.bottleneck


def test_a_damaged_photo_is_borne_however_often_it_is_repeated(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", 4)
    (root / "cut.jpg").write_bytes((root / "000.jpg").read_bytes()[:300])
    repeated = data_set(list_images(root), 24, tmp_path / "repeated")
    parts = Parts(TINY, torch.device("cpu"), tmp_path, silent)
    assert parts.systems({24: repeated})["loader-24"](6).rate > 0


def test_nothing_is_left_behind(report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    images = list_images(write_photos(tmp_path / "photos", 4))
    with pytest.raises(Exception, match="no_such_network"):
        bench_run(
            TINY.model_copy(
                update={"model": TINY.model.model_copy(update={"backbone": "no_such_network"})}
            ),
            *(images, torch.device("cpu"), 1, 0.01),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_parts_take_turns_on_a_cpu_and_work_side_by_side_on_a_gpu() -> None:
    rates = {"step": 12.0, "ready": 12.0, "loader-4": 6.0, "engine-4": 6.0, "run-4": 3.0}
    cpu, gpu = ({loss.whole: loss.share for loss in losses(rates, [4], g)} for g in (False, True))
    assert cpu == {"run-4": pytest.approx(3 / 4), "ready": 1.0, "engine-4": 1.0}
    assert gpu == {"run-4": pytest.approx(3 / 6), "ready": 1.0, "engine-4": 1.0}
    assert losses(rates, [4], on_gpu=True)[0].whole == "run-4"


def test_a_run_that_is_as_fast_as_the_slower_part_in_every_phase_loses_nothing() -> None:
    """Loading limits while the cache fills, and then the network does."""
    filling, cached, network = 3_000.0, 60_000.0, 21_000.0

    def rate(in_first_epoch: float, later: float) -> float:
        paces = {20: in_first_epoch, 40: later, 60: later}
        rows = [
            {"step": step, "images_per_second": pace, "time": dict.fromkeys(ACCOUNTS, 0.1)}
            for step, pace in paces.items()
        ]
        return of_rows(rows, samples=256, uncounted=20)[0]

    engine = rate(filling, cached)
    rates = {"ready": network, "step": network, "loader-5000": engine, "engine-5000": engine}
    rates["run-5000"] = rate(filling, network)
    found = {loss.whole: loss.share for loss in losses(rates, [5000], on_gpu=True)}
    assert found["run-5000"] == pytest.approx(1)


@pytest.mark.parametrize(("cache", "steps"), [("off", 6), ("host", 6 - 2 + 6)])
def test_the_epoch_in_which_a_cache_fills_precedes_the_steps_that_count(
    tmp_path: Path, cache: str, steps: int
) -> None:
    """That of 24 photos takes 6 steps; of the 6 others, the first two start the clock."""
    root = write_photos(tmp_path / "photos", 24)
    parts = Parts(TINY.with_values("data", cache=cache), torch.device("cpu"), tmp_path, silent)
    assert parts.systems({24: root})["run-24"](6).rate > 0
    (folder,) = tmp_path.glob("run-*")
    assert read_metrics(RunFolder(folder).metrics)[-1]["step"] == steps


@pytest.mark.parametrize(
    ("intervals", "idle"),
    [
        ([(0, 4), (4, 10)], 0.0),
        ([(0, 4), (5, 10)], 0.1),
        ([(5, 10), (0, 8), (1, 2)], 0.0),
        ([(2, 3), (11, 12)], 0.8),
        ([], 1.0),
    ],
)
def test_idle_is_what_no_kernel_covers(intervals, idle) -> None:
    assert idle_of(intervals) == pytest.approx(idle)


@pytest.mark.gpu
def test_a_gpu_is_asked_for_its_memory_and_its_idle_time(tmp_path: Path) -> None:
    images = list_images(write_photos(tmp_path, 6))
    settings = TINY.model_copy(update={"train": TrainSettings(device="cuda", compile="off")})
    report = bench_run(settings, images, torch.device("cuda"), 1, 0.01, counts=(9,))
    assert 0 <= report.extra["gpu_idle_share"] <= 1
    assert all(memory > 0 for memory in report.extra["peak_memory_gib"].values())
