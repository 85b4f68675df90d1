"""What will be measured is known beforehand, and so the least time it takes."""

from dataclasses import replace

import pytest
import torch

from cp2fast.bench.estimate import count_loader, count_train, least_time
from cp2fast.bench.loader import bench_loader
from cp2fast.bench.loader_task import Task
from cp2fast.config import PretrainSettings, TrainSettings
from cp2fast.data.images import list_images
from tests.data import betons, image_files

CPU = torch.device("cpu")


@pytest.fixture
def task(tmp_path):
    for number in range(4):
        image_files.photo(60, 90, number).save(tmp_path / f"{number}.jpg")
    return Task(list_images(tmp_path), None, CPU, size=32, batch_size=4, workers=1)


@pytest.mark.parametrize("packed", [False, True])
def test_the_loaders_systems_are_as_many_as_are_measured(task, tmp_path, packed) -> None:
    if packed:
        beton = betons.write_beton(tmp_path / "packed.beton", betons.photos(4))
        task = replace(task, beton=list_images(beton))
    lines: list[str] = []
    bench_loader(**vars(task), rounds=1, seconds=0, say=lines.append)
    assert f"done, {count_loader(task)} systems and ceilings" in lines[-1]


def test_photos_that_are_packed_already_are_decoded_by_one_ceiling(tmp_path) -> None:
    beton = list_images(betons.write_beton(tmp_path / "packed.beton", betons.photos(4)))
    again = list_images(tmp_path / "packed.beton")
    one, two = (Task(beton, other, CPU, 32, 4, 1) for other in (beton, again))
    assert count_loader(one) < count_loader(two)


def test_a_second_dtype_has_a_matrix_product_of_its_own() -> None:
    fp32, bf16 = (PretrainSettings(train=TrainSettings(precision=p)) for p in ("fp32", "bf16"))
    assert [count_train(settings, CPU) for settings in (fp32, bf16)] == [3, 4]


@pytest.mark.parametrize(("seconds", "least"), [(0.5, "12 s"), (5, "2 min"), (60, "24 min")])
def test_the_least_time_is_that_of_all_rounds_of_all(seconds, least) -> None:
    line = least_time({"loader": 5, "train": 3}, rounds=3, seconds=seconds)
    assert line.startswith(f"at least {least}: 3 x {seconds:g} s for each")
    assert "(loader 5, train 3)" in line
