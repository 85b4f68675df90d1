"""Each symptom brings the setting that helps, and a healthy folder brings none."""

import dataclasses
import math

import pytest
import torch

from cp2fast import recipes
from cp2fast.batch import RaggedBatch
from cp2fast.config import PretrainSettings
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.inspection.advice import advise, side_needed
from cp2fast.inspection.check import Check
from cp2fast.inspection.data_health import DataHealth, Quantiles
from cp2fast.inspection.proposal import Proposal

CORES = 4
HEALTHY = DataHealth(
    root="photos",
    skipped={},
    images=100_000,
    sampled=500,
    formats={"JPEG": 500},
    short_side=Quantiles(300, 480, 600),
    long_side=Quantiles(400, 640, 800),
    file_bytes=Quantiles(2e4, 1e5, 2e5),
    bad=[],
    read_milliseconds=0.2,
    decode_per_second=600.0,
    source="dali",
    images_per_second=1200.0,
    epoch_seconds=83.0,
)


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(CORES)))


def advice(*overrides: str, **changes: object) -> dict[str, Check]:
    settings = recipes.load(PretrainSettings, None, [f"data.workers={CORES}", *overrides])
    found = advise(dataclasses.replace(HEALTHY, **changes), settings)  # type: ignore[arg-type]
    return {check.name: check for check in found}


def test_a_healthy_folder_needs_none() -> None:
    assert advice() == {}


@pytest.mark.parametrize(
    ("name", "fix", "changes", "overrides"),
    [
        ("large images", "--max-side 768",
         {"short_side": Quantiles(2000, 3024, 3024), "long_side": Quantiles(3000, 4536, 4600)}, []),
        ("bands", "data.bands=[4,3,2] (as of Landsat 8); cp2fast preview",
         {"proposal": Proposal(bands=(4, 3, 2), reason="as of Landsat 8")}, []),
        ("range", "data.range=[204,1793.5]", {"proposal": Proposal(range=(204.0, 1793.5))}, []),
        ("format", "cp2fast pack photos packed.tar --range 0,9000 --bands 1,2,3, then",
         {"formats": {"TIFF": 500}, "proposal": Proposal(range=(0.0, 9000.0), bands=(1, 2, 3))},
         ["data.range=0,9000", "data.bands=1,2,3"]),
        ("small images", "model.size=96",
         {"short_side": Quantiles(60, 90, 100), "long_side": Quantiles(60, 90, 100)}, []),
        ("recipe", "cp2fast pretrain small data.root=photos", {"images": 12_000}, []),
        ("few images", "cp2fast pretrain small data.root=photos; or", {"images": 500}, []),
        ("format", "cp2fast pack photos packed.tar", {"formats": {"PNG": 400, "JPEG": 100}}, []),
        ("slow disk", "cp2fast pack 'my photos' packed.tar",
         {"root": "my photos", "read_milliseconds": 40.0}, []),
        ("recipe", "small 'data.root=my photos'", {"root": "my photos", "images": 12_000}, []),
        ("slow disk", "local disk", {"read_milliseconds": 40.0}, []),
        ("few images", "model.init=FILE", {"images": 900}, []),
        ("few images", "data.batch_size=25", {"images": 100}, []),
        ("few images", "data.batch_size=8, at most 9", {"images": 9}, []),
        ("few images", "data.batch_size=3, at most 3", {"images": 3}, []),
        ("workers", f"data.workers={CORES}", {}, ["data.workers=1"]),
        ("workers", f"data.workers={CORES}", {}, ["data.workers=16"]),
        ("broken files", "fix", {"bad": [("a.jpg", "empty file")]}, []),
    ],
)  # fmt: skip
def test_a_symptom_brings_what_helps(
    name: str, fix: str, changes: dict[str, object], overrides: list[str]
) -> None:
    found = advice(*overrides, **changes)
    assert found.keys() == {name}
    assert found[name].fix is not None
    assert fix in found[name].fix


def test_the_advice_about_bands_names_the_images_that_it_is_about() -> None:
    values = {"uint8, 3 bands": 5, "uint16, 4 bands": 4}
    proposal = Proposal(bands=(1, 2, 3), reason="a guess", unnamed="uint16, 4 bands", values=values)
    assert "(uint16, 4 bands)" in advice(proposal=proposal)["bands"].detail


@pytest.mark.parametrize("kind", ["numpy", "unknown"])
def test_what_is_quickly_decoded_or_not_at_all_is_no_slow_format(kind: str) -> None:
    assert advice(formats={kind: 500}) == {}
    assert advice(formats={kind: 260, "PNG": 240}) == {}
    found = advice(formats={kind: 200, "PNG": 180, "TIFF": 120})
    assert found["format"].detail.startswith("60% are not JPEG but mostly PNG")


def test_more_broken_files_than_a_run_accepts_fail() -> None:
    bad = [(f"{number}.jpg", "empty file") for number in range(6)]
    assert advice(bad=bad)["broken files"].fails
    assert not advice("data.max_bad_fraction=0.1", bad=bad)["broken files"].fails


def test_one_broken_file_of_few_does_not_fail_as_it_ends_no_run() -> None:
    bad = [("0.jpg", "empty file")]
    few = {"images": 300, "sampled": 10}
    assert advice(bad=bad, **few)["broken files"].fails
    assert not advice(bad=bad, **few | {"images": 10})["broken files"].fails


def test_too_few_images_for_a_batch_fail() -> None:
    assert advice(images=100)["few images"].fails
    assert not advice(images=900)["few images"].fails


def test_in_a_photo_of_the_side_needed_the_smallest_crops_still_fill_a_view() -> None:
    """Against the crops that are really drawn."""
    side = side_needed(224, 0.2)
    photo = torch.zeros((side, side, 3), dtype=torch.uint8)
    batch = RaggedBatch.pack([photo] * 64, range(64))
    boxes = sample_parameters(0, 0, batch, 224).box[..., 2:].double()
    smallest = boxes.prod(-1).sqrt().min()
    assert smallest == pytest.approx(224, rel=0.02)
    assert side == math.ceil(224 / math.sqrt(0.2))


def test_the_recipe_for_few_photos_is_not_proposed_where_it_is_taken_or_does_not_fit() -> None:
    assert "recipe" not in advice("model.queue=2048", images=12_000)
    assert "recipe" not in advice(images=30_000)
    fix = advice("data.batch_size=8", images=100)["few images"].fix
    assert fix is not None
    assert fix.startswith("model.init=FILE")
