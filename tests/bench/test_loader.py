"""The loader's benchmark runs every system on real files and says what limits."""

import json
import multiprocessing
import threading
from contextlib import closing
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from cp2fast.bench import ceilings
from cp2fast.bench.loader import bench_loader, few_batches
from cp2fast.bench.loader_sources import sources
from cp2fast.bench.loader_task import Task, find_missing
from cp2fast.bench.peers import dali_all, original, torchvision_v2
from cp2fast.config import DataSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.errors import UserError
from tests.data import betons, image_files
from tests.data.picture_sets import aerial

pytestmark = pytest.mark.slow

SIZE = 32
SYSTEMS = {
    "original",
    "torchvision",
    "dali-all",
    "cp2fast-torch",
    "cp2fast-turbo",
    "cp2fast-dali",
    "decode-torch",
    "decode-turbo",
    "decode-dali",
    "cp2fast-cached",
    "cp2fast-cached-independent",
}
OPTIONAL = {"spdl", "lightly-train"}
"""Peers that are measured where they are installed."""
OF_A_GPU = {
    *("cp2fast-dali-gpu", "cp2fast-both", "decode-dali-gpu", "decode-both"),
    *(f"decode-dali-gpu@{share}" for share in ("0", "0.5", "0.9", "1")),
}
OF_A_BETON = {"ffcv-kornia", "cp2fast-ffcv", "decode-ffcv"}


THREADS = ("cp2fast-ceiling", "cp2fast-prefetch", "cp2fast-read", "cp2fast-decode")


def assert_nothing_runs_on():
    assert multiprocessing.active_children() == []
    names = [thread.name for thread in threading.enumerate()]
    assert [name for name in names if name.startswith(THREADS)] == []


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for number in range(8):
        image_files.photo(60 + 7 * number, 90 - 5 * number, number).save(root / f"{number}.jpg")
    return list_images(root)


def task(images, **others):
    return Task(images=images, size=SIZE, batch_size=4, workers=1, **others)


def assert_pairs(query, key, *masks):
    assert query.shape == key.shape == (6, 3, SIZE, SIZE)
    for composed, mask in zip((query, key), masks, strict=True):
        assert -2.2 < composed.min() < -0.5 < 0.5 < composed.max() < 2.7
        for inside in mask.reshape(6, SIZE, SIZE).bool():
            assert torch.equal(inside, inside.any(1)[:, None] & inside.any(0)[None])
            assert 0.4 < inside.float().mean() < 0.9
    assert not torch.equal(query, key)


def test_the_peers_compose_pairs_from_files(photos):
    torch.manual_seed(0)
    numbers = range(6)
    pairs = original.pairs_of_files(photos, SIZE)
    assert_pairs(*default_collate([pairs[number] for number in numbers]))
    views = torchvision_v2.Views(photos, SIZE)
    assert_pairs(*torchvision_v2.paste([views[number] for number in numbers]))
    encoded = [np.frombuffer(photos.read(number), np.uint8) for number in numbers]
    batches = iter([numbers] * 9)
    assert_pairs(*next(dali_all.composed(encoded.__getitem__, batches, 6, SIZE, 1, None)))


def test_torchvisions_peer_takes_the_background_of_a_neighbour():
    views = torch.arange(3.0).view(3, 1, 1, 1, 1).expand(3, 4, 3, 2, 2)
    query, key, *_ = torchvision_v2.paste([(v, torch.zeros(2, 2, 2, dtype=bool)) for v in views])
    assert query[:, 0, 0, 0].tolist() == [2, 0, 1]
    assert key[:, 0, 0, 0].tolist() == [1, 2, 0]


def test_a_report_holds_every_system_its_ceiling_and_the_bottleneck(photos):
    report = bench_loader(task(photos), rounds=2, seconds=0.05).to_json()
    assert_nothing_runs_on()
    report = json.loads(json.dumps(report))
    rows = {row["system"]: row for row in report["results"]}
    assert set(rows) - OPTIONAL == SYSTEMS
    assert set(report["ceilings"]) == {"read", "decode", "augment", "pairs"}
    assert report["ceilings"]["pairs"] < min(
        report["ceilings"]["decode"], report["ceilings"]["augment"]
    )
    for name, row in rows.items():
        assert row["images_per_second"] > 0
        assert (row["share_of_ceiling"] is None) == (
            name in ("original", "torchvision", "dali-all") or name in OPTIONAL
        )
    assert "limits" in report["bottleneck"]
    assert report["extra"]["decoder_of_the_ceiling"] in (
        "torchvision",
        "simplejpeg",
        "libturbojpeg",
    )
    assert set(report["missing"]) - OPTIONAL == {*OF_A_BETON, *OF_A_GPU, "transfer"}
    assert report["missing"].keys() | rows.keys() >= OPTIONAL
    for name in OPTIONAL & report["missing"].keys():
        assert "install" in report["missing"][name]
    assert all("train.device=cuda" in report["missing"][name] for name in OF_A_GPU)
    assert all("cp2fast pack" in report["missing"][name] for name in OF_A_BETON)
    assert "nothing is transferred" in report["missing"]["transfer"]


def test_pipelines_for_photos_are_left_out_where_the_images_are_none(photos, tmp_path):
    """The others see the bands that were chosen, as a run does."""
    tiles = list_images(aerial(tmp_path / "tiles", 4))
    data = DataSettings(bands=(4, 3, 2), range=(100.0, 3000.0))
    asked = task(tiles, data=data)
    missing = find_missing(asked)
    for name in ("original", "torchvision", "dali-all"):
        assert "tile_0.TIF has more than 8 bits or more bands than a photo" in missing[name]
        assert name not in find_missing(task(photos, data=data))
    bad = BadImages(tmp_path, 0)
    with closing(sources(asked, missing, bad)["decode-turbo"].samples) as samples:
        assert next(samples) == 4
    assert bad.bad == 0


def test_what_composing_is_measured_on_is_shrunk_as_in_a_run(photos, tmp_path):
    """Else its ceiling is that of larger images, and is surpassed several times."""
    asked = task(photos, data=DataSettings(max_side=16))
    for batch in few_batches(asked, BadImages(tmp_path, 0)):
        assert max(batch.height.max(), batch.width.max()) == 16


def test_a_damaged_photo_ends_only_loaders_that_cannot_bear_it(photos, tmp_path):
    for number in range(7):
        (tmp_path / f"{number}.jpg").write_bytes(photos.read(number))
    (tmp_path / "cut.jpg").write_bytes(photos.read(7)[:900])
    report = bench_loader(task(list_images(tmp_path)), rounds=1, seconds=0)
    assert_nothing_runs_on()
    assert set(report.ceilings) == {"read", "decode", "augment", "pairs"}
    measured = {result.system for result in report.results}
    ours = {name for name in SYSTEMS if name.startswith(("cp2fast-", "decode-"))}
    assert measured >= ours
    assert report.extra["bad_images"] > 0
    # A batch is half of the photos, so these have all been read.
    assert not measured & {"torchvision", "dali-all"}
    assert "BadImage" in report.missing["torchvision"]
    assert report.missing["dali-all"].startswith("it failed: ")


def test_photos_of_which_none_can_be_read_are_refused(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"no photo")
    with pytest.raises(UserError, match="none of the first 4 images can be read"):
        ceilings.decoders(list_images(tmp_path), 4, threads=1)


@pytest.mark.skipif(find_spec("ffcv") is None, reason="pip install ffcv")
def test_a_beton_brings_ffcv_into_it(photos, tmp_path):
    packed = list_images(betons.write_beton(tmp_path / "packed.beton", betons.photos(8)))
    report = bench_loader(task(photos, beton=packed), rounds=1, seconds=0)
    assert {result.system for result in report.results} - OPTIONAL == SYSTEMS | OF_A_BETON
    assert set(report.missing) - OPTIONAL == OF_A_GPU | {"transfer"}
    assert report.ceilings["decode packed"] > 0
    assert "EpochIterator" not in {type(thread).__name__ for thread in threading.enumerate()}
    assert_nothing_runs_on()


def test_a_beton_smaller_than_a_batch_is_refused(photos, tmp_path):
    packed = list_images(betons.write_beton(tmp_path / "packed.beton", betons.photos(3)))
    with pytest.raises(UserError, match="batch"):
        task(photos, beton=packed)


@pytest.mark.gpu
def test_on_a_gpu_the_transfer_is_a_stage(photos):
    pytest.importorskip("nvidia.dali")
    gpu = torch.device("cuda", 0)
    report = bench_loader(task(photos, device=gpu), rounds=1, seconds=0.05)
    assert set(report.ceilings) == {"read", "decode", "transfer", "augment", "pairs"}
    assert "transfer" not in report.missing
    assert {result.system for result in report.results} - OPTIONAL == SYSTEMS | OF_A_GPU
